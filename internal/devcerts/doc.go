// Package devcerts makes a certificate authority and certificates for development and tests. Keys are ECDSA P-256.
//
// What it makes is real cryptography without the care that an authority of a production installation needs: the CA's key lies on
// disk beside what it signed.
package devcerts
