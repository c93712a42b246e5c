package main

import (
	"encoding/binary"
	"math/bits"
)

// bucketOf is the bucket of a key, from 0 to 9,999: BLAKE2b (RFC 7693) with the salt as its key and a digest of eight
// bytes, as in the Python middleware. It is written here because Go's standard library has it in no public package, and
// this server is built without any other module.
func bucketOf(salt, key string) int {
	h := blakeStart
	h[0] ^= 0x01010000 ^ uint64(len(salt))<<8 ^ 8
	var block [128]byte
	counted := uint64(0)
	if salt != "" {
		copy(block[:], salt)
		counted = 128
		if key != "" {
			compress(&h, &block, counted, false)
			block = [128]byte{}
		}
	}
	for ; len(key) > 128; key = key[128:] {
		copy(block[:], key)
		counted += 128
		compress(&h, &block, counted, false)
		block = [128]byte{}
	}
	copy(block[:], key)
	if key != "" {
		counted += uint64(len(key))
	}
	compress(&h, &block, counted, true)
	// The digest is h[0] in little-endian order, and read as a big-endian number.
	var digest [8]byte
	binary.LittleEndian.PutUint64(digest[:], h[0])
	return int(binary.BigEndian.Uint64(digest[:]) % documentParts)
}

var blakeStart = [8]uint64{0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
	0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179}

var blakeOrder = [10][16]int{
	{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
	{14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
	{11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4},
	{7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
	{9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13},
	{2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
	{12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11},
	{13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
	{6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5},
	{10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0},
}

var blakeMixes = [8][4]int{{0, 4, 8, 12}, {1, 5, 9, 13}, {2, 6, 10, 14}, {3, 7, 11, 15},
	{0, 5, 10, 15}, {1, 6, 11, 12}, {2, 7, 8, 13}, {3, 4, 9, 14}}

func compress(h *[8]uint64, block *[128]byte, counted uint64, last bool) {
	var m [16]uint64
	for i := range m {
		m[i] = binary.LittleEndian.Uint64(block[8*i:])
	}
	var v [16]uint64
	copy(v[:8], h[:])
	copy(v[8:], blakeStart[:])
	v[12] ^= counted
	if last {
		v[14] = ^v[14]
	}
	for round := range 12 {
		order := &blakeOrder[round%10]
		for i, at := range blakeMixes {
			a, b, c, d := at[0], at[1], at[2], at[3]
			v[a] += v[b] + m[order[2*i]]
			v[d] = bits.RotateLeft64(v[d]^v[a], -32)
			v[c] += v[d]
			v[b] = bits.RotateLeft64(v[b]^v[c], -24)
			v[a] += v[b] + m[order[2*i+1]]
			v[d] = bits.RotateLeft64(v[d]^v[a], -16)
			v[c] += v[d]
			v[b] = bits.RotateLeft64(v[b]^v[c], -63)
		}
	}
	for i := range h {
		h[i] ^= v[i] ^ v[i+8]
	}
}
