// What a pod runs where its image has no shell: the same as start.sh, as one static program.
//
//	starter ROUND PART
//
// It runs the job of the index of its pod, enforces its time limit, and leaves two records in the round's folder: that
// it has begun, and, last of all, how it ended.
package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	notEntered = 125
	stopped    = 143
	late       = 124
	chunk      = 50
	grace      = 5 * time.Second
	summing    = 20 * time.Second
	margin     = 2 * time.Second
)

// job is a line of the list.
type job struct {
	Limit       float64           `json:"limit"`
	Folder      string            `json:"folder"`
	Mode        uint32            `json:"mode"`
	Command     []string          `json:"command"`
	Environment map[string]string `json:"environment"`
	Lists       map[string]string `json:"lists"`
	Products    []string          `json:"products"`
}

// record is what is known of an index: of its begin, or all of it.
type record struct {
	Pod     string   `json:"pod"`
	Host    string   `json:"host"`
	Start   float64  `json:"start"`
	End     *float64 `json:"end,omitempty"`
	Code    *int     `json:"code,omitempty"`
	Signal  *int     `json:"signal,omitempty"`
	Late    bool     `json:"late,omitempty"`
	Stopped bool     `json:"stopped,omitempty"`
	Memory  int64    `json:"memory,omitempty"`
}

func main() {
	if len(os.Args) != 3 {
		fail(fmt.Errorf("expected the round's folder and the number of its Job"))
	}
	round, part := os.Args[1], os.Args[2]
	index, err := strconv.Atoi(os.Getenv("JOB_COMPLETION_INDEX"))
	check(err)
	if _, err := os.Stat(fmt.Sprintf("%s/removed/%s.%d", round, part, index)); err == nil {
		os.Exit(stopped)
	}
	mine, err := find(filepath.Join(round, part, "items", strconv.Itoa(index/chunk)), index%chunk)
	check(err)
	about := record{Pod: os.Getenv("CALIB_POD"), Host: os.Getenv("CALIB_NODE"), Start: now()}
	os.Unsetenv("CALIB_POD")
	os.Unsetenv("CALIB_NODE")
	records := filepath.Join(round, part, "records")
	check(note(records, fmt.Sprintf("%d.%s.begun", index, about.Pod), about))
	end := run(mine, about)
	if err := note(records, fmt.Sprintf("%d.ended", index), end); err != nil {
		fmt.Fprintln(os.Stderr, "starter:", err)
	}
	os.Exit(exitCode(end))
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "starter:", err)
	os.Exit(notEntered)
}

func check(err error) {
	if err != nil {
		fail(err)
	}
}

func now() float64 { return float64(time.Now().UnixMicro()) / 1e6 }

// find reads the line of a job.
func find(file string, line int) (found job, err error) {
	stream, err := os.Open(file)
	if err != nil {
		return
	}
	defer stream.Close()
	lines := bufio.NewReader(stream)
	for ; line >= 0; line-- {
		text, failed := lines.ReadBytes('\n')
		if failed != nil {
			return found, failed
		}
		if line == 0 {
			err = json.Unmarshal(text, &found)
		}
	}
	return
}

// note leaves a record: as a whole, or not at all.
func note(records, name string, what record) error {
	text, err := json.Marshal(what)
	if err != nil {
		return err
	}
	part := filepath.Join(records, "."+name+"."+what.Pod)
	if err = os.WriteFile(part, append(text, '\n'), 0o666); err == nil {
		err = os.Rename(part, filepath.Join(records, name))
	}
	if err != nil {
		return fmt.Errorf("%s cannot be written: is the volume full, or not this user's? %w", records, err)
	}
	return nil
}

// enter makes the folder of the attempt as at its first start, and begins in it.
func enter(mine job) (out, errors *os.File, failed error) {
	// Nothing above it: where the file system is not mounted, the job is to fail, and not to write elsewhere.
	if _, absent := os.Stat(mine.Folder); absent != nil {
		if failed = os.Mkdir(mine.Folder, os.FileMode(mine.Mode)); failed != nil {
			return
		}
	}
	if failed = os.Chdir(mine.Folder); failed != nil {
		return
	}
	for _, name := range []string{"out", "report.jsonl", "products.sha256"} {
		if failed = os.RemoveAll(name); failed != nil {
			return
		}
	}
	for name, text := range mine.Lists {
		if failed = os.WriteFile(name, []byte(text), 0o666); failed != nil {
			return
		}
	}
	if failed = os.Mkdir("out", 0o777); failed != nil {
		return
	}
	if out, failed = os.Create("stdout"); failed != nil {
		return
	}
	if errors, failed = os.Create("stderr"); failed != nil {
		return
	}
	failed = os.Chdir("out")
	return
}

// run runs the job to its end.
func run(mine job, about record) record {
	out, errors, failed := enter(mine)
	if failed != nil {
		// A fault of the place, and known: without a record the node would be taken for lost.
		fmt.Fprintln(os.Stderr, "starter:", failed)
		code := notEntered
		return ended(about, func(end *record) { end.Code = &code })
	}
	for name, value := range mine.Environment {
		os.Setenv(name, value)
	}
	began := time.Now()
	process := exec.Command(mine.Command[0], mine.Command[1:]...)
	process.Stdout, process.Stderr = out, errors
	// Asked for before there is a process: what comes meanwhile is for it.
	asked := make(chan os.Signal, 8)
	signal.Notify(asked, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	if err := process.Start(); err != nil {
		fmt.Fprintf(errors, "%s: %v\n", mine.Command[0], err)
		code := 126
		if notThere(err) {
			code = 127
		}
		return ended(about, func(end *record) { end.Code = &code })
	}
	over := make(chan struct{})
	go func() { process.Wait(); close(over) }()
	isLate, isStopped := wait(process, over, asked, mine.Limit)
	if isLate || isStopped {
		return ended(about, func(end *record) { end.Late, end.Stopped = isLate, isStopped && !isLate })
	}
	return ended(about, func(end *record) {
		status := process.ProcessState.Sys().(syscall.WaitStatus)
		end.Memory = process.ProcessState.SysUsage().(*syscall.Rusage).Maxrss * 1024
		if status.Signaled() {
			number := int(status.Signal())
			end.Signal = &number
			return
		}
		code := status.ExitStatus()
		end.Code = &code
		if code == 0 {
			sum(mine, began, asked)
		}
	})
}

func notThere(err error) bool {
	return os.IsNotExist(err) || strings.Contains(err.Error(), exec.ErrNotFound.Error())
}

func ended(about record, fill func(*record)) record {
	fill(&about)
	end := now()
	about.End = &end
	return about
}

// wait waits for the job, which is asked to end when its time is over or its pod is stopped, and left soon after.
func wait(process *exec.Cmd, over <-chan struct{}, asked <-chan os.Signal, limit float64) (isLate, isStopped bool) {
	var alarm, last <-chan time.Time
	if limit > 0 {
		alarm = time.After(time.Duration(limit * float64(time.Second)))
	}
	for {
		select {
		case <-over:
			return
		case <-last:
			// All of a container ends with its first process.
			process.Process.Kill()
			return
		case <-alarm:
			isLate = true
		case <-asked:
			isStopped = true
		}
		if last == nil {
			last = time.After(grace)
		}
		if os.Getpid() == 1 {
			// Everything there is; elsewhere it would be everything of the node.
			syscall.Kill(-1, syscall.SIGTERM)
		} else {
			process.Process.Signal(syscall.SIGTERM)
		}
	}
}

// sum leaves the checksums of the products beside them, as far as there is time.
func sum(mine job, began time.Time, asked <-chan os.Signal) {
	until := time.Now().Add(summing)
	if limit := began.Add(time.Duration(mine.Limit * float64(time.Second))).Add(-margin); mine.Limit > 0 && limit.Before(until) {
		until = limit
	}
	var lines strings.Builder
	for _, name := range mine.Products {
		if made, ok := checksum(name, until, asked); ok {
			lines.WriteString(made + "  " + name + "\n")
		}
	}
	if lines.Len() > 0 {
		os.WriteFile("../products.sha256", []byte(lines.String()), 0o666)
	}
}

func checksum(name string, until time.Time, asked <-chan os.Signal) (string, bool) {
	// Whatever it is, opening it must not wait.
	stream, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", false
	}
	defer stream.Close()
	if about, err := stream.Stat(); err != nil || !about.Mode().IsRegular() {
		return "", false
	}
	made, piece := sha256.New(), make([]byte, 1<<20)
	for time.Now().Before(until) && len(asked) == 0 {
		n, err := stream.Read(piece)
		made.Write(piece[:n])
		if err == io.EOF {
			return hex.EncodeToString(made.Sum(nil)), true
		}
		if err != nil {
			return "", false
		}
	}
	return "", false
}

func exitCode(end record) int {
	switch {
	case end.Late:
		return late
	case end.Stopped:
		return stopped
	case end.Signal != nil:
		return 128 + *end.Signal
	default:
		return *end.Code
	}
}
