package deadletter

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"strings"

	"example.com/usher/internal/store"
)

// A recipient's letter has two ids. Inside, in Redis, it is the campaign's name and the id of the address, which is a
// hash that anybody can try addresses with. Outside, wherever a person or program sees it, the id of the address is
// encrypted under a key of the campaign, which derives from the secret of the namespace. The letter of a task has the
// task's id, inside and outside.

// RecipientID is the id, inside, of the dead letter of a recipient of a campaign. That of a task is the task's id.
func RecipientID(campaign string, id store.AddressID) string {
	return campaign + ":" + hex.EncodeToString(id[:])
}

// recipientOf reads a RecipientID, or the same from outside. It is false if it is none.
func recipientOf(id string) (campaign string, recipient store.AddressID, ok bool) {
	campaign, digits, ok := strings.Cut(id, ":")
	if !ok || campaign == "" || recipient.UnmarshalText([]byte(digits)) != nil {
		return "", store.AddressID{}, false
	}
	return campaign, recipient, true
}

// CampaignOf is the campaign in the id of a recipient's letter, and false if it is the letter of a task.
func CampaignOf(id string) (campaign string, ok bool) {
	campaign, _, ok = recipientOf(id)
	return campaign, ok
}

// Inside is the id of a letter in Redis. It must not be shown.
func (e Entry) Inside() string {
	if e.Recipient != nil {
		return RecipientID(e.Campaign, *e.Recipient)
	}
	return e.ID
}

// aes128 is how long a key of AES-128 is.
const aes128 = 16

// block is what encrypts the ids of a campaign's addresses, which are one block long.
func (s *Store) block(ctx context.Context, campaign string) (cipher.Block, error) {
	key, err := s.secret.Derive(ctx, "dead letters of "+campaign)
	if err != nil {
		return nil, err
	}
	return aes.NewCipher(key[:aes128])
}

// IDOf is the id, outside, of the dead letter of a recipient of a campaign.
func (s *Store) IDOf(ctx context.Context, campaign string, recipient store.AddressID) (string, error) {
	block, err := s.block(ctx, campaign)
	if err != nil {
		return "", err
	}
	block.Encrypt(recipient[:], recipient[:])
	return RecipientID(campaign, recipient), nil
}

// outside gives the id, outside, of a letter that has an id inside.
func (s *Store) outside(ctx context.Context, id string) (string, error) {
	if campaign, recipient, ok := recipientOf(id); ok {
		return s.IDOf(ctx, campaign, recipient)
	}
	return id, nil
}

// inside gives what an id that comes in may be inside, the likelier first: earlier versions showed ids as they are
// inside.
func (s *Store) inside(ctx context.Context, id string) ([]string, error) {
	campaign, recipients, err := s.Recipients(ctx, id)
	if err != nil || len(recipients) == 0 {
		return []string{id}, err
	}
	var ids []string
	for _, recipient := range recipients {
		ids = append(ids, RecipientID(campaign, recipient))
	}
	return ids, nil
}

// Recipients gives the recipients of a campaign that an id which comes in may be about, the likelier first; none if
// it is the id of a task's letter.
func (s *Store) Recipients(
	ctx context.Context, id string,
) (campaign string, recipients []store.AddressID, err error) {
	campaign, plain, ok := recipientOf(id)
	if !ok {
		return "", nil, nil
	}
	block, err := s.block(ctx, campaign)
	if err != nil {
		return "", nil, err
	}
	recipient := plain
	block.Decrypt(recipient[:], recipient[:])
	return campaign, []store.AddressID{recipient, plain}, nil
}
