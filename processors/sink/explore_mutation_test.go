//go:build mutations

package sink

import "testing"

// TestExplorerNoticesMutations switches rules of the program itself off: the explorations, which run its code, must find what goes wrong then.
func TestExplorerNoticesMutations(t *testing.T) {
	for name, rule := range map[string]*bool{
		"a gap ends where audit-events begins (R13)":        &gapToFrom,
		"a drop is believed only with its first copy (R14)": &dropsBelieved,
	} {
		*rule = true
		wrong := violation(rules{})
		*rule = false
		if wrong == "" {
			t.Errorf("without the rule that %s nothing goes wrong", name)
		}
		t.Logf("without the rule that %s:\n%s", name, wrong)
	}
}
