package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// The versions that are measured. BullMQ wants ioredis beside it, and is tested with this one.
const (
	bullVersion    = "6.7.0"
	ioredisVersion = "5.11.1"
)

// bullWorker names BullMQ's worker.
const bullWorker = "bullmq"

// bullScript is a producer and a worker on BullMQ.
//
//go:embed bullmq.mjs
var bullScript []byte

// errNoNode is why BullMQ has no figure where it cannot be run.
var errNoNode = errors.New("node is not installed")

// bullInstallation is BullMQ in the folder of the run, or why it is not there.
type bullInstallation struct {
	node, script string
	err          error
}

// installBull installs BullMQ, at the first time that it is asked to.
func (b *bench) installBull(ctx context.Context) error {
	if b.bull == nil {
		b.bull = &bullInstallation{}
		b.bull.err = b.bull.install(ctx, filepath.Join(b.dir, bullWorker))
	}
	return b.bull.err
}

func (i *bullInstallation) install(ctx context.Context, dir string) (err error) {
	const limit = 2 * time.Minute
	if i.node, err = exec.LookPath("node"); err != nil {
		return errNoNode
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		return fmt.Errorf("%w: npm is missing", errNoNode)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("making a folder for BullMQ: %w", err)
	}
	i.script = filepath.Join(dir, "bullmq.mjs")
	if err := os.WriteFile(i.script, bullScript, 0o600); err != nil {
		return fmt.Errorf("writing BullMQ's worker: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	install := exec.CommandContext(ctx, npm, "install", "--prefix", dir, "--no-audit", "--no-fund", "--ignore-scripts",
		"bullmq@"+bullVersion, "ioredis@"+ioredisVersion)
	if out, err := install.CombinedOutput(); err != nil {
		return fmt.Errorf("npm cannot install BullMQ: %w: %s", err, bytes.TrimSpace(out[:min(len(out), 300)]))
	}
	return nil
}

// bullCampaign invites a list with BullMQ: five of seven in jobs for ten, and the others in a job each. That is what
// both limits carry of it. BullMQ does not divide a list between limits; here its producer does.
func bullCampaign() contender {
	const singles, all = perHour - 25*bulkSize, perHour // that a window carries
	enqueue := func(ctx context.Context, p bullProducer, people []tasks.Recipient) error {
		alone := (len(people)*singles + all - 1) / all
		if err := p.add(ctx, "bulk", bullJobs(people[alone:], bulkSize)); err != nil {
			return err
		}
		return p.add(ctx, "invite", bullJobs(people[:alone], 1))
	}
	return bullContender("BullMQ, a campaign", enqueue)
}

// bullInvites invites each with a job.
func bullInvites() contender {
	enqueue := func(ctx context.Context, p bullProducer, people []tasks.Recipient) error {
		return p.add(ctx, "invite", bullJobs(people, 1))
	}
	return bullContender("BullMQ, a job each", enqueue)
}

func bullContender(
	name string, enqueue func(ctx context.Context, p bullProducer, people []tasks.Recipient) error,
) contender {
	var producer bullProducer
	return contender{
		name: name, worker: bullWorker,
		begin: func(ctx context.Context, s *stage) (err error) {
			producer, err = s.startBullProducer(ctx)
			return err
		},
		enqueue: func(ctx context.Context, _ *stage, people []tasks.Recipient) error {
			return enqueue(ctx, producer, people)
		},
	}
}

// bullJob is a job as the producer adds it: a call for one recipient or for several.
type bullJob struct {
	Name string `json:"name"`
	Data any    `json:"data"`
}

func bullJobs(people []tasks.Recipient, size int) (jobs []bullJob) {
	for len(people) > 0 {
		n := min(size, len(people))
		job := bullJob{"invite", people[:n]}
		if size == 1 {
			job.Data = people[0]
		}
		jobs, people = append(jobs, job), people[n:]
	}
	return jobs
}

// bullProducer is the way to a process that adds jobs.
type bullProducer struct{ http *http.Client }

// startBullProducer starts a process that is ended with the workers.
func (s *stage) startBullProducer(ctx context.Context) (bullProducer, error) {
	const limit = 20 * time.Second
	if err := s.bench.installBull(ctx); err != nil {
		return bullProducer{}, err
	}
	socket := filepath.Join(s.redis.Dir, "bull.sock")
	process, err := testkit.Start(testkit.Command{
		Name: "bullmq-add", Path: s.bench.bull.node, Args: []string{s.bench.bull.script, "add", socket}, Dir: s.bench.dir,
		Env: []string{"REDIS_URL=" + s.redis.URL()},
	})
	if err != nil {
		return bullProducer{}, err
	}
	s.workers = append(s.workers, process)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	producer := bullProducer{&http.Client{Transport: &http.Transport{DialContext: dial}}}
	const what = "BullMQ's producer listens"
	return producer, testkit.Poll(ctx, pollEvery, limit, what, func(ctx context.Context) (bool, error) {
		_, err := os.Stat(socket)
		return err == nil, process.Alive()
	})
}

// add adds jobs to a queue, all of them at once.
func (p bullProducer) add(ctx context.Context, queue string, jobs []bullJob) error {
	body, err := json.Marshal(map[string]any{"queue": queue, "jobs": jobs})
	if err != nil {
		return fmt.Errorf("encoding BullMQ's jobs: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://bullmq/", bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("asking BullMQ's producer: %w", err)
	}
	response, err := p.http.Do(request)
	if err != nil {
		return fmt.Errorf("asking BullMQ's producer: %w", err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, text)
	}
	if err != nil {
		return fmt.Errorf("BullMQ's producer: %w", err)
	}
	return nil
}
