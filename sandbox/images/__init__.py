"""Container images without docker: the archive format, and the images of the pause container, engine and operator."""
