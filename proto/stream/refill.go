package stream

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/IBM/sarama"
)

// Outputs that were lost from audit-records are made again from audit-events: a refill (R21). Whoever misses something and whoever makes it again
// know of each other only what stands beside the commits of their groups:
//
//	sink ──SinkNote──▶ commit of audit-sink ────────┐
//	operator ──RefillRequest──▶ commit of audit-refill ──▶ enricher ──RefillMark──▶ commit of audit-enricher ──▶ gateway
//
// A note is a line of words key=number, or topic=id. Unknown words are ignored, so that either side may be the newer one; what does not parse says
// nothing.

// RefillGroup is a group without members. An operator's request for a refill is its commit on audit-events: the offset to start again at.
const RefillGroup = "audit-refill"

// SinkNote is what a sink says of a partition, in the metadata of its commit on audit-records.
type SinkNote struct {
	// Refill is the offset of audit-events from which on outputs are missing; NoCommit: nothing is asked.
	Refill int64
	// Unsure is the offset behind the last gap that is open: below it the log may lack slots, so none of them is named as the first copy of an
	// event (R14). 0: there is no gap.
	Unsure int64
}

// String is the note as it is committed.
func (n SinkNote) String() string {
	var words []string
	if n.Refill != NoCommit {
		words = append(words, word("refill", n.Refill))
	}
	if n.Unsure > 0 {
		words = append(words, word("unsure", n.Unsure))
	}
	return strings.Join(words, " ")
}

// ParseSinkNote reads a note.
func ParseSinkNote(metadata string) SinkNote {
	w := words(metadata)
	n := SinkNote{Refill: NoCommit, Unsure: w["unsure"]}
	if at, ok := w["refill"]; ok {
		n.Refill = at
	}
	return n
}

// RefillMark is what an enricher says in the metadata of its commit on audit-events: what the commit is a position in, and the refill it made last.
type RefillMark struct {
	// Topic is the id of the audit-events that the commit is a position in (R18); zero: not known.
	Topic [16]byte
	// Partitions of that audit-events when the commit was made (R18); 0: not known.
	Partitions int32
	// Offset that was asked for, by a sink, and answered at At, Tries times in a row; Tries 0: never.
	Offset int64
	Tries  int64
	At     time.Time
	// Until is the group's commit before the refill: it is under way while the commit is below.
	Until int64
	// Asked is the time of the last operator's request that was answered.
	Asked time.Time
}

// String is the mark as it is committed.
func (m RefillMark) String() string {
	var words []string
	if m.Topic != ([16]byte{}) {
		words = append(words, "topic="+hex.EncodeToString(m.Topic[:]))
	}
	if m.Partitions > 0 {
		words = append(words, word("partitions", int64(m.Partitions)))
	}
	if m.Tries > 0 {
		words = append(words, word("answered", m.Offset), word("tries", m.Tries), word("at", m.At.UnixMilli()))
	}
	if m.Until > 0 {
		words = append(words, word("until", m.Until))
	}
	if !m.Asked.IsZero() {
		words = append(words, word("asked", m.Asked.UnixMilli()))
	}
	return strings.Join(words, " ")
}

// ParseRefillMark reads a mark.
func ParseRefillMark(metadata string) RefillMark {
	w := words(metadata)
	m := RefillMark{Topic: topicWord(metadata), Until: w["until"]}
	if n := w["partitions"]; n <= math.MaxInt32 {
		m.Partitions = int32(n)
	}
	if w["tries"] > 0 {
		m.Offset, m.Tries, m.At = w["answered"], w["tries"], time.UnixMilli(w["at"])
	}
	if at, ok := w["asked"]; ok {
		m.Asked = time.UnixMilli(at)
	}
	return m
}

// RefillRequest is an operator's.
type RefillRequest struct {
	Offset int64     // of audit-events, to start again at
	Asked  time.Time // in milliseconds; tells requests apart
}

// ParseRefillRequest reads a request from a commit of RefillGroup; ok says whether it is one.
func ParseRefillRequest(c Commit) (r RefillRequest, ok bool) {
	at, ok := words(c.Metadata)["asked"]
	if !ok || c.Offset < 0 {
		return RefillRequest{}, false
	}
	return RefillRequest{Offset: c.Offset, Asked: time.UnixMilli(at)}, true
}

// AskRefill leaves an operator's request for a partition, in place of an earlier one. Running enrichers find it within seconds, others when they
// start.
func AskRefill(ctx context.Context, s Settings, partition int32, r RefillRequest) error {
	_, err := await(ctx, "ask for a refill", func() (struct{}, error) {
		client, err := sarama.NewClient(s.Brokers, ClientConfig(s))
		if err != nil {
			return struct{}{}, err
		}
		return struct{}{}, errors.Join(commitRefill(client, partition, r), client.Close())
	})
	return err
}

// commitRefill tries again while the group gets its coordinator.
func commitRefill(client sarama.Client, partition int32, r RefillRequest) error {
	request := &sarama.OffsetCommitRequest{Version: 7, ConsumerGroup: RefillGroup, ConsumerGroupGeneration: sarama.GroupGenerationUndefined}
	request.AddBlockWithLeaderEpoch(Events, partition, r.Offset, -1, 0, word("asked", r.Asked.UnixMilli()))
	var err error
	for try := range 5 {
		time.Sleep(time.Duration(try) * 200 * time.Millisecond)
		var coordinator *sarama.Broker
		if coordinator, err = client.Coordinator(RefillGroup); err != nil {
			continue
		}
		var response *sarama.OffsetCommitResponse
		if response, err = coordinator.CommitOffset(request); err == nil {
			answer, ok := response.Errors[Events][partition]
			switch {
			case !ok:
				return fmt.Errorf("partition %d: no answer", partition)
			case answer == sarama.ErrNoError:
				return nil
			}
			err = fmt.Errorf("partition %d: %w", partition, answer)
		}
		if refresh := client.RefreshCoordinator(RefillGroup); refresh != nil {
			err = errors.Join(err, refresh)
		}
	}
	return err
}

func word(key string, n int64) string { return key + "=" + strconv.FormatInt(n, 10) }

// topicWord is the topic=id of a note, or zero.
func topicWord(metadata string) (id [16]byte) {
	for _, w := range strings.Fields(metadata) {
		if value, ok := strings.CutPrefix(w, "topic="); ok && len(value) == 2*len(id) {
			if _, err := hex.Decode(id[:], []byte(value)); err != nil {
				return [16]byte{}
			}
		}
	}
	return id
}

func words(metadata string) map[string]int64 {
	found := make(map[string]int64)
	for _, w := range strings.Fields(metadata) {
		key, value, _ := strings.Cut(w, "=")
		if n, err := strconv.ParseInt(value, 10, 64); err == nil && n >= 0 {
			found[key] = n
		}
	}
	return found
}
