package views

import "strings"

// FilterField describes one field of the filter language, for help, completion and documentation.
type FilterField struct {
	// Name as a filter writes it; `attributes.KEY` stands for every attribute.
	Name string
	// Values says how they are written.
	Values string
	// Operators it takes.
	Operators []string
	// FreeText: words alone are looked for here.
	FreeText bool
	// Facet: AggregateEvents counts its values.
	Facet bool
	// FoundBy says what spares looking at every event: a column of `events`, the terms of segments; empty: nothing does.
	FoundBy string
	// Enum lists the values of an enumeration.
	Enum []string
	// Doc is one line.
	Doc string
}

// FilterFields is the table of fields, in the order of the contract.
func FilterFields() []FilterField {
	out := make([]FilterField, len(fields))
	for i := range fields {
		f := &fields[i]
		var found []string
		if f.column != "" {
			found = append(found, "column `"+f.column+"`")
		}
		if f.term != nil || f.kind == kindAddress || f.kind == kindValue {
			found = append(found, "terms")
		}
		out[i] = FilterField{Name: f.name, Values: f.written(), Operators: f.operators(), FreeText: f.flag&spoken != 0, Facet: f.flag&faceted != 0,
			FoundBy: strings.Join(found, ", "), Doc: f.doc}
		if len(f.values) > 0 {
			out[i].Enum = strings.Split(names(f.values), ", ")
		}
	}
	return out
}

// written says how the values of a field are written.
func (f *field) written() string {
	list := ""
	if f.list > 0 && f.kind == kindText {
		list = ", of any element"
	}
	switch f.kind {
	case kindEnum:
		return strings.ReplaceAll(names(f.values), ", ", " · ")
	case kindNumber, kindLog, kindIndex:
		return "number"
	case kindBool:
		return "true · false"
	case kindTime:
		return "time"
	case kindDuration:
		return "duration"
	case kindAddress:
		return "address, network"
	case kindKeys:
		return "key"
	case kindID:
		return "UUID"
	default:
		return "text" + list
	}
}
