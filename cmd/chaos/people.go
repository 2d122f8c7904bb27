package main

import (
	"fmt"
	"strconv"
	"strings"

	"example.com/usher/tasks"
)

// address is that of a recipient, who is known by a number.
func address(number int) string { return fmt.Sprintf("no%04d@example.com", number) }

// who names an address by its number.
func who(email string) string {
	digits := strings.TrimSuffix(strings.TrimPrefix(email, "no"), "@example.com")
	if number, err := strconv.Atoi(digits); err == nil && address(number) == email {
		return fmt.Sprintf("no. %d", number)
	}
	return "a stranger"
}

// recipient is somebody to invite, whatever invitations there are already.
func recipient(number int) tasks.Recipient {
	return tasks.Recipient{EmailAddress: address(number), IgnoreExisting: true}
}

// various is somebody to invite who wants, by the number, that Clerk ignores existing invitations, that it does not,
// or that one is accepted or resent. Nobody has one.
func various(number int) tasks.Recipient {
	r := tasks.Recipient{EmailAddress: address(number)}
	switch number % 4 {
	case 0:
		r.IgnoreExisting = true
	case 1:
		r.OnDuplicate = tasks.AcceptDuplicate
	case 2:
		r.OnDuplicate = tasks.ResendDuplicate
	}
	return r
}

// span is the recipients of these numbers, without the last.
type span struct {
	from, to int
	wish     func(number int) tasks.Recipient
}

func (s span) size() int { return s.to - s.from }

// recipient is one of them.
func (s span) recipient(number int) tasks.Recipient {
	if s.wish == nil {
		return recipient(number)
	}
	return s.wish(number)
}

// file is the span as a file for a bulk.
func (s span) file() string {
	var b strings.Builder
	b.WriteString("email_address,ignore_existing,on_duplicate\n")
	for number := s.from; number < s.to; number++ {
		r := s.recipient(number)
		fmt.Fprintf(&b, "%s,%t,%s\n", r.EmailAddress, r.IgnoreExisting, r.OnDuplicate)
	}
	return b.String()
}

// onceEach wants every one of the spans exactly once.
func onceEach(spans ...span) map[string]int {
	want := map[string]int{}
	for _, s := range spans {
		for number := s.from; number < s.to; number++ {
			want[address(number)] = 1
		}
	}
	return want
}
