package store

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
)

// Fold gives the form under which two spellings of an address are one recipient: Clerk matches addresses without
// regard to case.
func Fold(address string) string { return strings.ToLower(strings.TrimSpace(address)) }

// AddressID stands for a folded address. Its intents and its rows in campaigns are kept under it.
type AddressID [16]byte

// IDOf gives the id of an address.
func IDOf(address string) AddressID {
	sum := sha256.Sum256([]byte(Fold(address)))
	return AddressID(sum[:16])
}

// MarshalText writes an id in hexadecimal.
func (id AddressID) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(id[:])), nil }

// UnmarshalText reads an id in hexadecimal.
func (id *AddressID) UnmarshalText(text []byte) error {
	raw, err := hex.DecodeString(string(text))
	if err != nil || len(raw) != len(id) {
		return errors.New("recipient id is not 32 hexadecimal digits")
	}
	*id = AddressID(raw)
	return nil
}

// IDsAmong gives those of some values that have the length of an id.
func IDsAmong(values []string) (ids []AddressID) {
	for _, value := range values {
		if len(value) == len(AddressID{}) {
			ids = append(ids, AddressID([]byte(value)))
		}
	}
	return ids
}
