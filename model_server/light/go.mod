module serin.dev/light

go 1.25
