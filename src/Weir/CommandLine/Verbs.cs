// The verbs: words that stand for a whole configuration, for those who have none. Each verb's options are one table,
// from which both the parser and the help text are made; what a verb means is a BuiltInConfiguration. Start-up only.
using System.Globalization;
using Weir.Conf;
using Weir.Explain;
using Weir.Kernel;
using Weir.Lab;
using Weir.Server;

namespace Weir;

/// <summary>An option of a verb. <paramref name="Value"/> is the placeholder of its value; null for a switch.</summary>
internal sealed record VerbOption(string Name, char? Letter, string? Value, string Summary);

/// <summary>A verb: its name, what follows it, its options.</summary>
internal sealed record Verb(string Name, string Operands, string Summary, VerbOption[] Options);

internal static class Verbs
{
    private static readonly VerbOption _listen = new("--listen", 'l', "ADDR",
        "8080, *:8080, 192.0.2.1:80, [::]:8080 or unix:/path; may be repeated");

    private static readonly VerbOption _port = new("--port", 'p', "N",
        "this port on localhost (default 8080, with --https 8443)");

    private static readonly VerbOption _https = new("--https", null, null,
        "HTTPS and HTTP/2, with a certificate for localhost that is made when there is none");

    private static readonly VerbOption _workers = new("--workers", 'w', "N", "worker processes (default: one per CPU)");

    private static readonly VerbOption _log = new("--log", null, null, "one line per request on standard output");

    private static readonly VerbOption _printConf = new("--print-conf", null, null,
        "print the nginx.conf that this stands for, and stop");

    private static readonly VerbOption _help = new("--help", 'h', null, "this text");

    public static Verb Serve { get; } = new("serve", "[DIR]", "a folder over HTTP",
    [
        _port, _listen,
        new("--spa", null, null, "unknown paths get /index.html: for applications that route in the browser"),
        new("--no-list", null, null, "no listing of directories without an index file"),
        _https, _log, _workers, _printConf, _help,
    ]);

    public static Verb Proxy { get; } = new("proxy", "URL…", "a reverse proxy in front of an application",
    [
        _port, _listen, _https, _log, _workers, _printConf, _help,
    ]);

    public static Verb App { get; } = new("app", "", "an application server, to try concurrency models with",
    [
        _port, _listen, _https, .. AppVerb.Options, _help,
    ]);

    public static Verb Lab { get; } = new("lab", "[EXPERIMENT]", "the concurrency models side by side, measured",
    [
        .. LabVerb.Options,
        new("--port", 'p', "N", "with --web: this port on localhost (default 8090)"), _listen, _help,
    ]);

    public static Verb Explain { get; } = new("explain", "[METHOD] URL", "what a configuration does with one request",
    [
        .. ExplainVerb.Options, _help,
    ]);

    public static Verb Help { get; } = new("help", "[TOPIC]", "texts like this one", []);

    public static Verb[] All { get; } = [Serve, Proxy, App, Lab, Explain, Help];

    public static IEnumerable<string> Names => All.Select(static v => v.Name);

    /// <summary>Null when the first word is no verb.</summary>
    public static Invocation? TryParse(string[] args) => args[0] switch
    {
        "serve" => ParseWords(Serve, args, FinishServe),
        "proxy" => ParseWords(Proxy, args, FinishProxy),
        "app" => ParseWords(App, args, FinishApp),
        "lab" => ParseWords(Lab, args, FinishLab),
        "explain" => ParseWords(Explain, args, static w => ExplainVerb.Finish(w.Operands, w.Given, w.Switches)),
        "help" => ParseHelp(args),
        _ => null,
    };

    private static Invocation ParseHelp(string[] args)
    {
        string topic = args.Length > 1 ? args[1] : "";
        if (HelpText.Of(topic) is { } text)
        {
            return new Invocation { Action = InvocationAction.VerbHelp, Message = text };
        }
        return CommandLine.Complain($"no help on \"{topic}\"",
            NearestName.Hint(HelpText.Topics, topic) ?? "topics: " + string.Join(", ", HelpText.Topics));
    }

    /// <summary>The words of a verb, sorted into options and operands.</summary>
    private sealed class Words
    {
        public List<string> Operands { get; } = [];
        public List<string> Listens { get; } = [];
        public HashSet<string> Switches { get; } = [];
        public Dictionary<string, string> Values { get; } = [];

        /// <summary>The same in order, for options that may be repeated.</summary>
        public List<(string Name, string Value)> Given { get; } = [];
        public int? Port { get; set; }
        public int? Workers { get; set; }
    }

    private static Invocation ParseWords(Verb verb, string[] args, Func<Words, Invocation> finish)
    {
        var words = new Words();
        bool onlyOperands = false;
        for (int i = 1; i < args.Length; i++)
        {
            string word = args[i];
            if (onlyOperands || !word.StartsWith('-') || word == "-")
            {
                words.Operands.Add(word);
                continue;
            }
            if (word == "--")
            {
                onlyOperands = true;
                continue;
            }
            int equals = word.IndexOf('=', StringComparison.Ordinal);
            string name = equals < 0 ? word : word[..equals];
            string? value = equals < 0 ? null : word[(equals + 1)..];
            VerbOption? option = Array.Find(verb.Options,
                o => o.Name == name || (name.Length == 2 && o.Letter == name[1]));
            if (option is null)
            {
                return CommandLine.Complain($"\"weir {verb.Name}\" has no option \"{name}\"",
                    NearestName.Hint(verb.Options.Select(static o => o.Name), name)
                    ?? $"\"weir help {verb.Name}\" lists them");
            }
            if (option == _help)
            {
                return new Invocation { Action = InvocationAction.VerbHelp, Message = HelpText.Of(verb.Name)! };
            }
            if (option.Value is null)
            {
                if (value is not null)
                {
                    return CommandLine.Complain($"option \"{option.Name}\" takes no value");
                }
                words.Switches.Add(option.Name);
                continue;
            }
            value ??= i + 1 < args.Length ? args[++i] : null;
            if (string.IsNullOrEmpty(value))
            {
                return CommandLine.Complain($"option \"{option.Name}\" requires a value: {option.Value}");
            }
            if (TakeValue(words, option, value) is { } refused)
            {
                return refused;
            }
        }
        return finish(words);
    }

    private static Invocation? TakeValue(Words words, VerbOption option, string value)
    {
        if (option == _listen)
        {
            // A bare number is a port on every address, as in `listen 8080;`.
            if (!SocketAddress.TryParse(value, 80, out SocketAddress? _, out string error))
            {
                return CommandLine.Complain($"invalid address \"{value}\" of \"--listen\": {error}", option.Summary);
            }
            words.Listens.Add(value);
            return null;
        }
        if (option.Name != _port.Name && option != _workers)
        {
            words.Values[option.Name] = value;
            words.Given.Add((option.Name, value));
            return null;
        }
        int max = option.Name == _port.Name ? 65535 : 1000;
        if (!int.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out int number)
            || number < 1 || number > max)
        {
            return CommandLine.Complain($"invalid number \"{value}\" of \"{option.Name}\"", $"1 to {max}");
        }
        if (option.Name == _port.Name)
        {
            words.Port = number;
        }
        else
        {
            words.Workers = number;
        }
        return null;
    }

    private static Invocation FinishServe(Words words)
    {
        if (words.Operands.Count > 1)
        {
            return CommandLine.Complain("\"weir serve\" serves one folder",
                "for more, write an nginx.conf: weir help conf");
        }
        string directory = Path.GetFullPath(words.Operands.FirstOrDefault(".")!);
        if (!Directory.Exists(directory))
        {
            return CommandLine.Complain(File.Exists(directory)
                ? $"\"{directory}\" is a file, not a folder" : $"there is no folder \"{directory}\"");
        }
        if (ConfQuote.Of(directory) is not { } quoted)
        {
            return CommandLine.Complain(
                $"the path \"{directory}\" has a \"$\" in it, which nginx.conf reads as a variable");
        }
        if (Common(words, out Invocation? refused) is not { } common)
        {
            return refused!;
        }
        var options = new ServeOptions(common, quoted)
        {
            IsSpa = words.Switches.Contains("--spa"),
            Lists = !words.Switches.Contains("--no-list"),
        };
        return Start(InvocationAction.VerbServe, words, BuiltInConfigurations.Serve(options));
    }

    private static Invocation FinishProxy(Words words)
    {
        if (words.Operands.Count == 0)
        {
            return CommandLine.Complain("\"weir proxy\" needs the URL of an application",
                "for example: weir proxy http://localhost:3000");
        }
        var targets = new List<ProxyTarget>();
        foreach (string operand in words.Operands)
        {
            if (!ProxyTarget.TryParse(operand, out ProxyTarget? target, out string? error))
            {
                return CommandLine.Complain($"invalid URL \"{operand}\": {error}");
            }
            targets.Add(target!);
        }
        if (targets.Exists(t => t.Uri != targets[0].Uri))
        {
            return CommandLine.Complain("the URLs differ in their paths; balanced servers must not");
        }
        return Common(words, out Invocation? refused) is { } common
            ? Start(InvocationAction.VerbProxy, words, BuiltInConfigurations.Proxy(common, targets)) : refused!;
    }

    private static Invocation FinishApp(Words words)
    {
        if (words.Operands.Count > 0)
        {
            return CommandLine.Complain($"\"weir app\" takes options only, not \"{words.Operands[0]}\"");
        }
        if (Common(words, out Invocation? refused) is not { } common)
        {
            return refused!;
        }
        return AppVerb.Read(words.Values, words.Switches, common, out (string Text, string? Hint) wrong) is { } options
            ? new Invocation { Action = InvocationAction.VerbApp, App = options }
            : CommandLine.Complain(wrong.Text, wrong.Hint);
    }

    private static Invocation FinishLab(Words words)
    {
        if (words.Operands.Count > 1)
        {
            return CommandLine.Complain("\"weir lab\" runs one experiment, or \"all\"");
        }
        if (LabOptions.Read(words.Operands.FirstOrDefault("compare")!, words.Values, words.Switches,
            out (string Text, string? Hint) wrong) is not { } options)
        {
            return CommandLine.Complain(wrong.Text, wrong.Hint);
        }
        var listens = new List<string>(words.Listens);
        if (words.Port is not null || listens.Count == 0)
        {
            listens.AddRange(BuiltInConfigurations.Localhost(words.Port ?? LabVerb.DefaultPort));
        }
        return new Invocation { Action = InvocationAction.VerbLab, Lab = options with { Listens = listens } };
    }

    /// <summary>What all verbs have; null with the answer when the certificate cannot be had.</summary>
    private static CommonOptions? Common(Words words, out Invocation? refused)
    {
        refused = null;
        DevelopmentCertificate? certificate = null;
        if (words.Switches.Contains(_https.Name))
        {
            try
            {
                certificate = DevelopmentCertificate.Ensure();
            }
            catch (IOException e)
            {
                refused = CommandLine.Complain(e.Message, "it is kept in " + DevelopmentCertificate.DefaultDirectory);
                return null;
            }
            if (ConfQuote.Of(certificate.CertificatePath) is null)
            {
                refused = CommandLine.Complain($"the path \"{certificate.CertificatePath}\" has a \"$\" in it, which "
                    + "nginx.conf reads as a variable", "XDG_DATA_HOME names another directory");
                return null;
            }
        }
        var listens = new List<string>(words.Listens);
        if (words.Port is not null || listens.Count == 0)
        {
            int otherwise = certificate is null ? BuiltInConfigurations.DefaultPort
                : BuiltInConfigurations.DefaultHttpsPort;
            listens.AddRange(BuiltInConfigurations.Localhost(words.Port ?? otherwise));
        }
        return new CommonOptions(listens, words.Workers, words.Switches.Contains("--log"))
        {
            Certificate = certificate,
        };
    }

    private static Invocation Start(InvocationAction action, Words words, BuiltInConfiguration configuration) => new()
    {
        Action = action,
        ConfPath = configuration.Path,
        BuiltIn = configuration,
        PrintConf = words.Switches.Contains("--print-conf"),
    };
}
