package desk

import (
	"strings"

	"example.com/usher/internal/fate"
)

// Advice says in plain words what to do about dead letters of a cause. Most recipients are refused for one of these
// codes of Clerk's (https://clerk.com/docs/errors).
func Advice(reason, code string) string {
	switch code {
	case "form_identifier_exists":
		return "The address belongs to a user already. Nothing is left to do: delete the letter. " +
			"With on_existing_user set to skip, such recipients do not become dead letters."
	case "duplicate_record":
		return "An invitation for the address is pending already. Delete the letter, or retry it with " +
			"on_duplicate set to accept or resend."
	case "not_allowed_access":
		return "The allowlist or blocklist of the instance excludes the address. Change the list at Clerk and retry, " +
			"or delete the letter."
	case fate.CodeRestored:
		return "Redis was restored from a copy, and nobody knows whether this recipient was invited since. Ask it, or " +
			"look at Clerk. Retry the letter to send an invitation, or delete it."
	case "dev_monthly_email_limit_exceeded":
		return "A development instance may send no more e-mails this month. Retry next month, or use a production instance."
	}
	if strings.HasPrefix(code, "form_") {
		return "Clerk does not accept the value of a field. Correct it and send the letter again."
	}
	switch reason {
	case "exhausted":
		return "Clerk failed again and again. Look at status.clerk.com. When it is well, retry these."
	case "invalid":
		return "The task could not be read: the program that enqueued it wrote something that Usher does not know. " +
			"Correct the program, and enqueue it again."
	}
	return "Read what Clerk says. Correct the request and retry it, or delete the letter."
}
