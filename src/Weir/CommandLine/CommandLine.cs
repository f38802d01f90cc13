// nginx's command line: one-letter flags that may stand in one clump (`-tq`), a value in the same word or in the next
// (`-cfile`, `-c file`), and nginx's complaints. A first word without a dash is a verb (Verbs.cs). Pure: asks the
// environment for the current directory and nothing else. It runs at every start, so no library stands behind it.
using Weir.Conf;
using Weir.Lint;

namespace Weir;

/// <summary>Understands command lines.</summary>
internal static class CommandLine
{
    private const string FlagLetters = "?hvVtTqspecg";

    private static readonly string[] _signals = ["stop", "quit", "reopen", "reload"];

    public static Invocation Parse(string[] args)
    {
        if (args.Length == 0)
        {
            BuiltInConfiguration welcome = BuiltInConfigurations.Welcome();
            return new Invocation { Action = InvocationAction.Run, ConfPath = welcome.Path, BuiltIn = welcome };
        }
        return Verbs.TryParse(args) ?? new Flags().Parse(args);
    }

    internal static Invocation Complain(string message, string? hint = null) => new()
    {
        Action = InvocationAction.Error,
        ExitCode = 1,
        Message = hint is null ? message : message + "\n" + hint,
    };

    /// <summary>One pass over nginx's flags.</summary>
    private sealed class Flags
    {
        private bool _help, _version, _versionFull, _test, _dump, _quiet;
        private string? _conf, _prefix, _errorLog, _globals, _signal, _lintOff;
        private Invocation? _refused;

        public Invocation Parse(string[] args)
        {
            for (int i = 0; i < args.Length && _refused is null; i++)
            {
                string word = args[i];
                if (!word.StartsWith('-'))
                {
                    return Complain($"invalid option: \"{word}\"", WordHint(word));
                }
                if (word.StartsWith("--", StringComparison.Ordinal))
                {
                    Long(word);
                }
                else
                {
                    Clump(args, ref i);
                }
            }
            return _refused ?? Result();
        }

        private void Clump(string[] args, ref int i)
        {
            string word = args[i];
            for (int at = 1; at < word.Length; at++)
            {
                switch (word[at])
                {
                    case '?' or 'h':
                        _help = true;
                        break;
                    case 'v':
                        _version = true;
                        break;
                    case 'V':
                        _versionFull = true;
                        break;
                    case 't':
                        _test = true;
                        break;
                    case 'T':
                        _test = _dump = true;
                        break;
                    case 'q':
                        _quiet = true;
                        break;
                    case 'p' or 'e' or 'c' or 'g' or 's':
                        Take(word[at], args, at + 1, ref i);
                        return;
                    default:
                        _refused = Complain($"invalid option: \"{word[at]}\"", LetterHint(word[at]));
                        return;
                }
            }
        }

        /// <summary>A flag with a value: the rest of its word, or the next word.</summary>
        private void Take(char flag, string[] args, int at, ref int i)
        {
            string value;
            if (at < args[i].Length)
            {
                value = args[i][at..];
            }
            else if (i + 1 < args.Length)
            {
                value = args[++i];
            }
            else
            {
                string what = flag switch { 'p' => "directory name", 'e' or 'c' => "file name", _ => "parameter" };
                _refused = Complain($"option \"-{flag}\" requires {what}");
                return;
            }
            switch (flag)
            {
                case 'p':
                    _prefix = value;
                    break;
                case 'e':
                    _errorLog = value;
                    break;
                case 'c':
                    _conf = value;
                    break;
                case 'g':
                    _globals = value;
                    break;
                default:
                    TakeSignal(value);
                    break;
            }
        }

        private void TakeSignal(string name)
        {
            if (_signals.Contains(name))
            {
                _signal = name;
                return;
            }
            _refused = Complain($"invalid option: \"-s {name}\"",
                NearestName.Hint(_signals, name) ?? "one of stop, quit, reopen, reload");
        }

        /// <summary>nginx has no long flags; two are what everybody tries first.</summary>
        private void Long(string word)
        {
            switch (word)
            {
                case "--help":
                    _help = true;
                    break;
                case "--version":
                    _version = true;
                    break;
                case "--no-lint":
                    _lintOff = "";
                    break;
                case var some when some.StartsWith("--no-lint=", StringComparison.Ordinal):
                    _lintOff = some["--no-lint=".Length..];
                    string? strange = Array.Find(_lintOff.Split(','), static r => !Linter.Rules.ContainsKey(r));
                    if (strange is not null)
                    {
                        _refused = Complain($"\"--no-lint\" knows no rule \"{strange}\"",
                            NearestName.Hint(Linter.Rules.Keys, strange) ?? "\"weir help lint\" lists them");
                    }
                    break;
                default:
                    _refused = Complain($"invalid option: \"{word}\"", LongHint(word));
                    break;
            }
        }

        private Invocation Result()
        {
            InvocationAction? preface = _help ? InvocationAction.Help
                : _versionFull ? InvocationAction.VersionFull
                : _version ? InvocationAction.Version : null;
            // As nginx: a version or the help ends it, unless a test was asked for too.
            InvocationAction action = preface is { } only && !_test ? only
                : _test ? _dump ? InvocationAction.TestDump : InvocationAction.Test
                : _signal is not null ? InvocationAction.Signal : InvocationAction.Run;
            string prefix = _prefix is null ? Invocation.DefaultPrefix : WithSlash(Path.GetFullPath(_prefix));
            return new Invocation
            {
                Action = action,
                Preface = action == preface ? null : preface,
                Prefix = prefix,
                ConfPath = _conf is null ? Invocation.DefaultConfPath : ConfPathOf(_conf, prefix),
                ErrorLogPath = _errorLog is null or "stderr" ? _errorLog ?? "" : Path.GetFullPath(_errorLog, prefix),
                Globals = _globals ?? "",
                Quiet = _quiet,
                LintOff = _lintOff is null ? [] : _lintOff.Length == 0 ? null : _lintOff.Split(','),
                Signal = _signal ?? "",
            };
        }

        /// <summary>As nginx, relative to the prefix; without -p, what is here comes first (docs/cli.md).</summary>
        private string ConfPathOf(string conf, string prefix)
        {
            string here = Path.GetFullPath(conf);
            return _prefix is null && File.Exists(here) ? here : Path.GetFullPath(conf, prefix);
        }

        private static string WithSlash(string path) => path.EndsWith('/') ? path : path + "/";

        private static string? WordHint(string word) =>
            File.Exists(word) ? $"to run this configuration: weir -c {word}"
            : Directory.Exists(word) ? $"to serve this folder: weir serve {word}"
            : NearestName.Hint(Verbs.Names, word) ?? "\"weir help\" lists what there is";

        private static string? LetterHint(char letter)
        {
            char other = char.IsUpper(letter) ? char.ToLowerInvariant(letter) : char.ToUpperInvariant(letter);
            return FlagLetters.Contains(other) ? $"did you mean \"-{other}\"?" : "\"weir -h\" lists the flags";
        }

        private static string LongHint(string word)
        {
            string name = word.Split('=')[0];
            foreach (Verb verb in Verbs.All)
            {
                if (verb.Options.Any(o => o.Name == name))
                {
                    return $"\"{name}\" belongs to \"weir {verb.Name}\"";
                }
            }
            string flag = name switch
            {
                "--config" or "--conf" or "--configuration" => "did you mean \"-c FILE\"?",
                "--test" => "did you mean \"-t\"?",
                "--quiet" => "did you mean \"-q\"?",
                "--signal" => "did you mean \"-s SIGNAL\"?",
                "--prefix" => "did you mean \"-p DIRECTORY\"?",
                _ => "",
            };
            return flag.Length > 0 ? flag
                : NearestName.Hint(["--help", "--version"], name) ?? "\"weir -h\" lists the flags";
        }
    }
}
