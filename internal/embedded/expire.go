package embedded

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"
)

// segmentBytes is the size at which the broker begins a new segment file; only whole segments expire.
const segmentBytes = 16 << 20

// expireSegments removes segments that are older than their topic's retention.ms, oldest first and never a partition's last
// one, which holds where the log ends. The broker must not be running. A process that dies here has removed a
// prefix of what was to go: the log begins at the first segment that is left.
func expireSegments(dir string, log zerolog.Logger) error {
	content, err := os.ReadFile(filepath.Join(dir, "topics.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var saved struct {
		Topics []struct {
			Name       string            `json:"name"`
			Partitions int               `json:"partitions"`
			Configs    map[string]string `json:"configs"`
		} `json:"topics"`
	}
	if err := json.Unmarshal(content, &saved); err != nil {
		return fmt.Errorf("topics.json: %w", err)
	}
	for _, topic := range saved.Topics {
		retention, err := strconv.ParseInt(topic.Configs["retention.ms"], 10, 64)
		if err != nil || retention < 0 || strings.Contains(topic.Configs["cleanup.policy"], "compact") {
			continue // no limit, or the latest value of each key must stay
		}
		bound := time.Now().Add(-time.Duration(retention) * time.Millisecond)
		for p := range topic.Partitions {
			removed, err := expirePartition(filepath.Join(dir, "partitions", fmt.Sprintf("%s-%d", url.PathEscape(topic.Name), p)), bound)
			if err != nil {
				return err
			}
			if removed > 0 {
				log.Info().Str("topic", topic.Name).Int("partition", p).Int("segments", removed).Msg("removed expired segments")
			}
		}
	}
	return nil
}

// expirePartition removes leading segments last written before bound.
func expirePartition(dir string, bound time.Time) (removed int, err error) {
	bases, err := segmentBases(dir)
	if err != nil || len(bases) < 2 {
		return 0, err
	}
	for _, base := range bases[:len(bases)-1] {
		segment := filepath.Join(dir, fmt.Sprintf("%d.dat", base))
		info, err := os.Stat(segment)
		if err != nil || info.ModTime().After(bound) {
			return removed, err
		}
		if err := os.Remove(segment); err != nil {
			return removed, err
		}
		if err := remove(filepath.Join(dir, fmt.Sprintf("%d.idx", base))); err != nil {
			return removed, err
		}
		removed++
	}
	return removed, nil
}

func segmentBases(dir string) ([]int64, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var bases []int64
	for _, entry := range entries {
		if name, isSegment := strings.CutSuffix(entry.Name(), ".dat"); isSegment {
			if base, err := strconv.ParseInt(name, 10, 64); err == nil {
				bases = append(bases, base)
			}
		}
	}
	slices.Sort(bases)
	return bases, nil
}
