// Package clock tells the time of day where it decides something: stamps, validation, ages of what is stored. How long something takes is
// not its business; the monotonic reading of time.Now serves that.
//
// It is time.Now. Only a binary with the build tag "mutations" can be told to have a wrong clock, for the fault scenarios; one without the
// tag does not have that code.
package clock
