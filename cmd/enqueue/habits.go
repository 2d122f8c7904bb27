package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/willabides/kongplete"

	"example.com/usher/internal/settings"
	"example.com/usher/internal/store"
)

// helpCommand is here to be listed: words tells of it.
type helpCommand struct {
	Command []string `arg:"" optional:"" help:"The command."`
}

func (helpCommand) Run() error { return nil }

// words makes "--help" of a leading "help", as kong understands it. It joins a flag with a number below zero, which
// kong takes for a flag: whoever reads the number says what is wrong with it.
func words(args []string) (joined []string) {
	if len(args) > 0 && args[0] == "help" {
		return append(append([]string{}, args[1:]...), "--help")
	}
	for i, arg := range args {
		if arg == "--" {
			return append(joined, args[i:]...)
		}
		if last := len(joined) - 1; last >= 0 && negative.MatchString(arg) && bareFlag.MatchString(joined[last]) {
			joined[last] += "=" + arg
			continue
		}
		joined = append(joined, arg)
	}
	return joined
}

var (
	negative = regexp.MustCompile(`^-[0-9]`)
	bareFlag = regexp.MustCompile(`^--[a-z-]+$`)
)

// unexpected is what kong says of an argument that it has no place for.
const unexpected = "unexpected argument "

// plainly says what kong found wrong in the words of a person.
func plainly(err error) error {
	text := err.Error()
	if parse, ok := errors.AsType[*kong.ParseError](err); ok && strings.HasPrefix(text, unexpected) {
		at := parse.Context.Selected()
		if at == nil || len(at.Children) > 0 { // what stands there is no command
			path := pathOf(at)
			name, similar, _ := strings.Cut(strings.TrimPrefix(text, unexpected), ",")
			return fmt.Errorf("there is no command %s%s (%s lists them)", strings.TrimSpace(path+" "+name),
				strings.TrimSuffix(","+similar, ","), strings.TrimSpace("enqueue help "+path))
		}
	}
	for _, of := range []struct{ kong, plain string }{
		{`^(--[a-z-]+): expected a valid 64 bit int but got (".*")$`, `$1: got $2, want a whole number`},
		{`^(--[a-z-]+): expected \w+ value but got "EOL" \(<EOL>\)$`, `$1 needs a value: none follows it`},
		{`^(--[a-z-]+): expected \w+ value but got (".*") \(\w+ flag\).*$`,
			`$1 needs a value, and $2 is taken for a flag: if it is the value, write $1=$2`},
	} {
		if plain := regexp.MustCompile(of.kong); plain.MatchString(text) {
			return errors.New(plain.ReplaceAllString(text, of.plain))
		}
	}
	return err
}

// completes answers a shell that asks how a line goes on, and tells whether that was asked.
func completes(parser *kong.Kong, stderr io.Writer) bool {
	if os.Getenv("COMP_LINE") == "" {
		return false
	}
	done := false
	kongplete.Complete(parser, kongplete.WithExitFunc(func(int) { done = true }),
		kongplete.WithErrorHandler(func(err error) { fmt.Fprintln(stderr, "enqueue:", err) }))
	return done
}

type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Run writes what a shell must be told. The words themselves come from the program whenever they are asked for.
func (c *completionCommand) Run(a *app) error {
	path, err := os.Executable()
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return fmt.Errorf("finding out where enqueue is: %w", err)
	}
	script := map[string]string{
		"bash": "complete -C QUOTED enqueue",
		"zsh":  "autoload -U +X bashcompinit && bashcompinit\ncomplete -C QUOTED enqueue",
		"fish": `function __complete_enqueue
    set -lx COMP_LINE (commandline -cp)
    test -z (commandline -ct)
    and set COMP_LINE "$COMP_LINE "
    QUOTED
end
complete -f -c enqueue -a "(__complete_enqueue)"`,
	}[c.Shell]
	script = strings.ReplaceAll(script, "QUOTED", "'"+strings.ReplaceAll(path, "'", `'\''`)+"'")
	a.out.say("%s", script)
	a.out.object(view{"shell": c.Shell, "script": script})
	return nil
}

// listFlag sends a list to a file.
type listFlag struct {
	Output string `short:"o" placeholder:"PATH" help:"Write to this new file: CSV, or JSON lines into *.json or *.jsonl."`
}

// asJSON tells whether a file of this name gets JSON lines, and not CSV.
func asJSON(path string) bool {
	return slices.Contains([]string{".json", ".jsonl", ".ndjson"}, strings.ToLower(filepath.Ext(path)))
}

func (f *listFlag) path() string { return f.Output }

// intoFile lets a list go into the file that a command was told to write. What it gives is called with the command's
// error, and gives it back with what may be wrong with the file.
func (w *work) intoFile(parsed *kong.Context, out *output) (whole func(err error) error, err error) {
	list, ok := parsed.Selected().Target.Addr().Interface().(interface{ path() string })
	if !ok || list.path() == "" {
		return func(err error) error { return err }, nil
	}
	file, err := create(list.path())
	if err != nil {
		return nil, err
	}
	w.makes(file.Name())
	out.into, out.stdout = file, out.stderr
	if asJSON(file.Name()) && !out.json {
		out.json, out.told = true, true
	}
	return func(err error) error {
		partial, other := store.SplitPartial(cmp.Or(err, out.failed))
		if out.given == 0 {
			partial, other = nil, cmp.Or(err, out.failed)
		}
		if err = w.wrote(file, other); err == nil {
			out.note("%s written to %s.", plural(out.given, "row"), file.Name())
			err = partial
		}
		return err
	}, nil
}

// wrote closes a file that was written. With an error the file is removed: it would be in the way of another try.
func (w *work) wrote(file *os.File, err error) error {
	if closing := file.Close(); err == nil {
		err = closing
	}
	if err != nil {
		_ = os.Remove(file.Name())
		err = fmt.Errorf("%s was not written: %w", file.Name(), err)
	}
	w.makes("")
	return err
}

// warnings tells of settings that have no effect.
func warnings(out *output) {
	for _, warning := range settings.UnknownVariables(os.Environ()) {
		out.note("Warning: %s", warning)
	}
}
