// What a test says about the machine that a configuration was written for: where its files lie here, what its names
// are, what replaces texts in it. Set before the configuration is loaded, on any thread; afterwards only read.
namespace Weir.Testing;

/// <summary>How a configuration is loaded for a test.</summary>
public sealed class NginxConfOptions
{
    /// <summary>What relative paths of files belong to (-p); null for the directory of the configuration
    /// file.</summary>
    public string? Prefix { get; init; }

    /// <summary>Directives before the file's own, as after -g.</summary>
    public string Globals { get; init; } = "";

    /// <summary>Texts that are replaced in every file of the configuration before it is read: paths of the production
    /// machine, for example, by paths of this one.</summary>
    public IDictionary<string, string> Replace { get; init; } = new Dictionary<string, string>();

    /// <summary>Files of the configuration that are not on this machine, by the absolute path that an
    /// <c>include</c>, an <c>ssl_certificate</c> or the like names. They come before those on the disk.</summary>
    public IDictionary<string, string> Files { get; init; } = new Dictionary<string, string>();

    /// <summary>Addresses of host names. A name that is not here has an address of its own from 198.18.0.0/15, in the
    /// order of appearance; nothing is asked of a name server.</summary>
    public IDictionary<string, string> Hosts { get; init; } = new Dictionary<string, string>();

    /// <summary>How long, on the virtual clock, an answer may take before a test fails: a day.</summary>
    public TimeSpan Patience { get; init; } = TimeSpan.FromDays(1);

    /// <summary>The lowest level that <see cref="NginxConf.Log"/> keeps where the configuration's own
    /// <c>error_log</c> would keep less: "debug", "info", "notice", "warn", "error". Null for the configuration's
    /// own.</summary>
    public string? LogLevel { get; init; }
}

/// <summary>A configuration that Weir refuses.</summary>
/// <param name="message">All errors, as <c>weir -t</c> tells them.</param>
/// <param name="errors">The errors one by one.</param>
public sealed class NginxConfException(string message, IReadOnlyList<string> errors) : Exception(message)
{
    /// <summary>The errors, in the order of the files.</summary>
    public IReadOnlyList<string> Errors { get; } = errors;
}
