package ledger

// DecodeRow is decode, for the fuzz target.
func DecodeRow(id, value string) (Row, error) { return decode(id, value) }
