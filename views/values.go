package views

import "strconv"

// fieldReader reads the values of one field off encoded records, as they would be written in a filter. It is for one goroutine at a time.
type fieldReader struct {
	field   *field
	key     string
	slots   slots
	program *program
	scratch *scratch
	text    []byte
}

// newFieldReader takes the name of a field as a filter writes it; false when there is none, or none with values to count (times, texts
// and identities differ in every event).
func newFieldReader(name string) (*fieldReader, bool) {
	f, key := findField(name)
	if f == nil || f.flag&faceted == 0 || f == fieldAttribute && key == fieldKeyName {
		return nil, false
	}
	r := &fieldReader{field: f, key: key, program: newProgram(nil)}
	r.slots = r.program.keep(f)
	r.scratch = r.program.newScratch()
	return r, true
}

// fieldKeyName is how the table names the key of any attribute.
const fieldKeyName = "KEY"

// read calls yield with each value of the field: once for a field that stands once, also when it is missing, with the empty text; for a
// list with each element, equal ones included. What yield gets it must not keep. Errors: errDamaged.
func (r *fieldReader) read(at place, record []byte, yield func(value []byte)) error {
	r.scratch.reset()
	if err := r.program.plan.scan(record, r.scratch); err != nil {
		return damaged(err, "entry %d of log %d", at.index, at.log)
	}
	f := r.field
	switch f.kind {
	case kindText, kindAddress:
		if f.list == 0 {
			yield(r.scratch.bytes[r.slots.bytes])
			return nil
		}
		for _, element := range r.scratch.lists[r.slots.list] {
			yield(lastOf(element, uint64(f.path[f.list])))
		}
	case kindKeys, kindValue:
		r.attributes(yield)
	default:
		yield(r.number(at))
	}
	return nil
}

func (r *fieldReader) attributes(yield func(value []byte)) {
	entries := r.scratch.lists[r.slots.list]
	for i := len(entries) - 1; i >= 0; i-- {
		key := lastOf(entries[i], 1)
		switch {
		case r.field.kind == kindKeys:
			if !standsIn(entries[i+1:], view(key)) {
				yield(key)
			}
		case string(key) == r.key:
			yield(lastOf(entries[i], 2))
			return
		}
	}
	if r.field.kind == kindValue {
		yield(nil)
	}
}

func (r *fieldReader) number(at place) []byte {
	number := int64(0)
	if r.field.kind != kindLog {
		number = int64(r.scratch.numbers[r.slots.number])
	}
	switch r.field.kind {
	case kindEnum:
		return []byte(r.field.nameOf(int32(number)))
	case kindBool:
		return strconv.AppendBool(r.text[:0], number != 0)
	case kindLog:
		number = int64(at.log)
	}
	r.text = strconv.AppendInt(r.text[:0], number, 10)
	return r.text
}

// nameOf is the name of a value of an enumeration; of one that is not known, its number.
func (f *field) nameOf(number int32) string {
	if number == 0 {
		return f.silent
	}
	for name, n := range f.values {
		if n == number {
			return name
		}
	}
	return strconv.Itoa(int(number))
}
