package cloudtrail

import (
	"strings"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// Beginnings of the names of AWS's operations.
var (
	reads = []string{"Get", "List", "Describe", "Head", "Lookup", "Search", "Query", "Scan", "Select", "View", "BatchGet", "Check",
		"Detect", "Estimate", "Preview", "Simulate", "Test", "Validate", "Verify"}
	creates = []string{"Create", "Run", "Allocate", "Register", "Import", "Copy", "Request", "Issue", "Upload", "Restore", "Invite",
		"Publish", "Generate", "Purchase", "Provision", "Clone"}
	deletes = []string{"Delete", "Terminate", "Release", "Deregister", "Remove", "Purge", "Cancel", "Leave", "Deprovision", "Abort"}
	updates = []string{"Put", "Update", "Modify", "Set", "Attach", "Detach", "Associate", "Disassociate", "Add", "Change", "Tag", "Untag",
		"Replace", "Reset", "Rotate", "Start", "Stop", "Reboot", "Assign", "Unassign", "Move", "Rename", "Upgrade", "Apply", "Batch"}
	admins = []string{"Authorize", "Revoke", "Enable", "Disable", "Grant", "StartLogging", "StopLogging"}
)

// kind decides as the documentation of the package says. readOnly is nil where the record does not say it (eventVersion below 1.05).
func kind(eventType, service, name string, readOnly *bool) audittrailv1.ActionKind {
	switch {
	case eventType == "AwsConsoleSignIn" || service == "signin",
		service == "sts" && begins(name, "AssumeRole", "GetSessionToken", "GetFederationToken"):
		return audittrailv1.ActionKind_ACTION_KIND_AUTH
	case readOnly != nil && *readOnly, readOnly == nil && begins(name, reads...):
		return audittrailv1.ActionKind_ACTION_KIND_READ
	case strings.Contains(name, "Policy"), strings.Contains(name, "Permission"), begins(name, admins...):
		return audittrailv1.ActionKind_ACTION_KIND_ADMIN
	case begins(name, creates...):
		return audittrailv1.ActionKind_ACTION_KIND_CREATE
	case begins(name, deletes...):
		return audittrailv1.ActionKind_ACTION_KIND_DELETE
	case begins(name, updates...):
		return audittrailv1.ActionKind_ACTION_KIND_UPDATE
	default:
		return audittrailv1.ActionKind_ACTION_KIND_OTHER
	}
}

func begins(name string, prefixes ...string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}
