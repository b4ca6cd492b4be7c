// Package cloudtrail maps AWS CloudTrail records to events, and reads them from log files.
//
// The mapping is a pure function ([Map]): the same record gives the same event, so an import may be repeated. The whole record is kept
// byte for byte in details; everything else is there to be searched.
//
//	source           aws/<recipientAccountId>/<service>; service is eventSource without .amazonaws.com
//	action           <service>.<eventName>
//	idempotency_key  eventID; without one SHA-256 of the record
//	occurred_at      eventTime
//	kind             see below
//	outcome          success without errorCode; denied for AccessDenied…, Unauthorized…, NotAuthorized…, AuthorizationError…,
//	                 Forbidden…, with or without Client. or Server. before it; otherwise failure. A sign-in without errorCode that says
//	                 Failure is a failure.
//	reason_code      errorCode
//	reason           errorMessage
//	actor.type       userIdentity.type; unknown where there is none
//	actor.id         an assumed role: the ARN of the role; otherwise the first there is of arn, principalId, invokedBy, userName, accountId
//	actor.name       userName, or that of the assumed role
//	actor.session    of an assumed role or federated user: the name of the session
//	actor.auth_method  mfa where a second factor was used
//	actor.on_behalf_of  userIdentity.onBehalfOf.userId (IAM Identity Center)
//	resources        resources: type and ARN
//	context          sourceIPAddress, userAgent, requestID, awsRegion
//	attributes       access_key_id and invoked_by, from userIdentity
//	details          the record
//
// kind is, in this order: auth for sign-in events (eventType AwsConsoleSignIn, service signin) and for STS's AssumeRole…,
// GetSessionToken and GetFederationToken; read where readOnly is true, or is not said and the name begins like a read; admin where the
// name says Policy or Permission, or begins with Authorize, Revoke, Enable, Disable, Grant, StartLogging or StopLogging; else create,
// update or delete by the beginning of the name (see kind.go); else other.
//
// A value that is over its limit, or not of the type it should be, never makes a record fail: text for people is shortened, identifiers
// and addresses are left out, since a shortened one would be another one. [Note] says so, and details has the original. A record is
// refused only when it is no JSON object, is over 32 KiB (details are never shortened), or has no time.
package cloudtrail
