package tokens

// Named gives the tokens of a name: several while one takes another's place.
func (f *File) Named(name string) (found []Identity) {
	for _, one := range f.now() {
		if one.Name == name {
			found = append(found, one)
		}
	}
	return found
}
