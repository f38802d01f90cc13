// The settings that the server itself uses: nginx's core server and location configurations. Filled by Modules/Core.cs.
using Weir.Conf;
using Weir.Kernel;
using Weir.Session;

namespace Weir.Http;

/// <summary>A server: what is known once the name was matched.</summary>
public sealed class ServerConf
{
    internal HttpBlock Block = null!;

    public List<ServerName> ServerNames { get; } = [];
    public bool HasListen { get; set; }

    /// <summary>The first name, as `$server_name` and redirects give it.</summary>
    public string PrimaryName { get; set; } = "";
    public NativeSlice PrimaryNameBytes { get; set; }

    public Inherited<long> ClientHeaderTimeoutMs;
    public Inherited<long> ClientHeaderBufferSize;
    public Inherited<ConfBufs> LargeClientHeaderBuffers;
    public Inherited<bool> IgnoreInvalidHeaders;
    public Inherited<bool> UnderscoresInHeaders;
    public Inherited<bool> MergeSlashes;
    public Inherited<int> MaxHeaders;

    // Frozen.

    /// <summary>Its certificates and the settings of handshakes; null without any.</summary>
    public Tls.TlsContext? Tls { get; set; }

    /// <summary>HTTP/2 on its connections.</summary>
    internal Modules.Http2Settings Http2 { get; set; } = null!;

    /// <summary>ssl_reject_handshake.</summary>
    public bool RejectsHandshakes { get; set; }

    /// <summary>Where it stands, for messages.</summary>
    public ConfSpan Span { get; set; }
    public object?[] Modules { get; set; } = [];

    /// <summary>The server level's location settings: in force until a location is found, and where none
    /// matches.</summary>
    public LocationConf Location { get; set; } = null!;
    public LocationTree Locations { get; set; } = null!;
    public PhaseHandler[] Pipeline { get; set; } = [];
    public Weir.Protocol.Http1.ParseOptions ParseOptions { get; set; }
}

/// <summary>How `satisfy` combines access rules.</summary>
public enum Satisfy
{
    All,
    Any,
}

public enum LingeringClose
{
    Off,
    On,
    Always,
}

public enum ServerTokens
{
    Off,
    On,
    Build,
}

public enum IfModifiedSinceMode
{
    Off,
    Exact,
    Before,
}

public enum SymlinkPolicy
{
    Off,
    On,
    IfNotOwner,
}

/// <summary>An error_page rule.</summary>
/// <param name="Status">The status it catches.</param>
/// <param name="Overwrite">The status to answer with; -1: the caught one, 0: the one the page brings (`=`).</param>
/// <param name="Target">A URI, a named location (begins with @), or an absolute URL.</param>
public sealed record ErrorPage(int Status, int Overwrite, Template Target, Template? Args);

/// <summary>A location: what it is, what runs in it, and its settings. A server and http are also locations:
/// they are inherited from.</summary>
public sealed class LocationConf
{
    // What it is.

    /// <summary>The prefix, regular expression or @name as written.</summary>
    public string Name { get; set; } = "";

    /// <summary>What stands before the name: "", "=", "^~", "~", "~*"; of an `if`, that of the location
    /// around.</summary>
    public string Modifier { get; set; } = "";
    public NativeSlice NameBytes { get; set; }
    public bool IsExact { get; set; }
    public bool StopsRegex { get; set; }
    public bool IsNamed { get; set; }
    public Regex? Regex { get; set; }

    /// <summary>An `if` or limit_except block.</summary>
    public bool IsNoName { get; set; }
    public bool IsInternal { get; set; }

    /// <summary>A handler of the location's own (proxy_pass, stub_status…): it alone makes the content.</summary>
    public PhaseHandler? ContentHandler { get; set; }

    /// <summary>The prefix ends in a slash and the handler wants the redirect of the path without it (proxy_pass and
    /// its kind).</summary>
    public bool AutoRedirect { get; set; }

    /// <summary>Settings for the methods that limit_except does not list; null without one.</summary>
    public Modules.LimitExceptHandler? LimitExcept { get; set; }

    /// <summary>Locations inside, in order; null for none, and when the configuration is complete.</summary>
    internal List<LocationConf>? Children { get; set; }

    /// <summary>Its block; null when the configuration is complete.</summary>
    internal HttpBlock Block = null!;

    /// <summary>The core settings in force: the block's own, or those around.</summary>
    public LocationSettings Settings { get; internal set; } = null!;

    // Frozen after merging.

    public object?[] Modules { get; set; } = [];
    public PhaseHandler[] Pipeline { get; set; } = [];
    public HeadFilter[] HeadFilters { get; set; } = [];

    /// <summary>How files are looked up; null before the location was installed.</summary>
    internal Modules.FileCacheRules? FileCache { get; set; }

    /// <summary>http2_chunk_size: bytes of a DATA frame at most.</summary>
    internal int Http2ChunkBytes { get; set; } = Http.Modules.Http2Module.ChunkBytesDefault;

    // The settings by name.

    public ref Inherited<Template> Root => ref Settings.Root;
    public ref Inherited<long> MaxBodySize => ref Settings.MaxBodySize;
    public ref Inherited<long> ClientBodyBufferSizeSetting => ref Settings.ClientBodyBufferSizeSetting;
    public ref Inherited<long> ClientBodyTimeoutMs => ref Settings.ClientBodyTimeoutMs;
    public ref Inherited<int> ClientBodyInFileOnly => ref Settings.ClientBodyInFileOnly;
    public ref Inherited<bool> ClientBodyInSingleBuffer => ref Settings.ClientBodyInSingleBuffer;
    public ref Inherited<string> ClientBodyTempPath => ref Settings.ClientBodyTempPath;
    public ref Inherited<long> SendTimeoutMs => ref Settings.SendTimeoutMs;
    public ref Inherited<long> KeepAliveTimeout => ref Settings.KeepAliveTimeout;
    public ref Inherited<long> KeepAliveHeaderSec => ref Settings.KeepAliveHeaderSec;
    public ref Inherited<long> KeepAliveMinTimeout => ref Settings.KeepAliveMinTimeout;
    public ref Inherited<long> KeepAliveTime => ref Settings.KeepAliveTime;
    public ref Inherited<int> KeepAliveRequestsSetting => ref Settings.KeepAliveRequestsSetting;
    public ref Inherited<int> KeepAliveDisable => ref Settings.KeepAliveDisable;
    public ref Inherited<LingeringClose> LingeringClose => ref Settings.LingeringClose;
    public ref Inherited<long> LingeringTimeMs => ref Settings.LingeringTimeMs;
    public ref Inherited<long> LingeringTimeoutMs => ref Settings.LingeringTimeoutMs;
    public ref Inherited<bool> ResetTimedOutConnection => ref Settings.ResetTimedOutConnection;
    public ref Inherited<bool> TcpNoDelay => ref Settings.TcpNoDelay;
    public ref Inherited<bool> TcpNoPush => ref Settings.TcpNoPush;
    public ref Inherited<long> SendLowat => ref Settings.SendLowat;
    public ref Inherited<long> PostponeOutput => ref Settings.PostponeOutput;
    public ref Inherited<bool> SendFile => ref Settings.SendFile;
    public ref Inherited<long> SendFileMaxChunk => ref Settings.SendFileMaxChunk;
    public ref Inherited<long> ReadAhead => ref Settings.ReadAhead;
    public ref Inherited<long> DirectIo => ref Settings.DirectIo;
    public ref Inherited<long> OutputBuffersSize => ref Settings.OutputBuffersSize;
    public ref Inherited<Template> DefaultType => ref Settings.DefaultType;
    public ref Inherited<Template> LimitRate => ref Settings.LimitRate;
    public ref Inherited<Template> LimitRateAfter => ref Settings.LimitRateAfter;
    public ref Inherited<bool> LogNotFound => ref Settings.LogNotFound;
    public ref Inherited<bool> LogSubrequest => ref Settings.LogSubrequest;
    public ref Inherited<bool> RecursiveErrorPages => ref Settings.RecursiveErrorPages;
    public ref Inherited<ServerTokens> ServerTokens => ref Settings.ServerTokens;
    public ref Inherited<bool> ChunkedTransferEncoding => ref Settings.ChunkedTransferEncoding;
    public ref Inherited<bool> ETag => ref Settings.ETag;
    public ref Inherited<IfModifiedSinceMode> IfModifiedSince => ref Settings.IfModifiedSince;
    public ref Inherited<int> MaxRanges => ref Settings.MaxRanges;
    public ref Inherited<bool> AbsoluteRedirect => ref Settings.AbsoluteRedirect;
    public ref Inherited<bool> ServerNameInRedirect => ref Settings.ServerNameInRedirect;
    public ref Inherited<bool> PortInRedirect => ref Settings.PortInRedirect;
    public ref Inherited<bool> MsiePadding => ref Settings.MsiePadding;
    public ref Inherited<bool> MsieRefresh => ref Settings.MsieRefresh;
    public ref Inherited<Satisfy> SatisfyMode => ref Settings.SatisfyMode;
    public ref Inherited<SymlinkPolicy> DisableSymlinks => ref Settings.DisableSymlinks;
    public ref Inherited<Template> DisableSymlinksFrom => ref Settings.DisableSymlinksFrom;
    public ref Inherited<int> SubrequestOutputBufferSize => ref Settings.SubrequestOutputBufferSize;
    public ref Inherited<string> PostAction => ref Settings.PostAction;
    public ref Inherited<long> AuthDelayMs => ref Settings.AuthDelayMs;
    public ref Inherited<Template[]?> EarlyHints => ref Settings.EarlyHints;
    public ref InheritedList<ErrorPage> ErrorPages => ref Settings.ErrorPages;
    public ref InheritedList<LogTarget> ErrorLogs => ref Settings.ErrorLogs;
    public bool IsAlias => Settings.IsAlias;
    public int AliasLength => Settings.AliasLength;
    public MimeTypes Types => Settings.Types;
    public Log ErrorLog => Settings.ErrorLog;
    public long MaxBodyBytes => Settings.MaxBodyBytes;
    public int ClientBodyBufferSize => Settings.ClientBodyBufferSize;
    public int KeepAliveTimeoutMs => Settings.KeepAliveTimeoutMs;
    public int KeepAliveRequests => Settings.KeepAliveRequests;
    public long KeepAliveTimeMs => Settings.KeepAliveTimeMs;
    public NativeSlice ServerHeader => Settings.ServerHeader;
}

/// <summary>The core settings of a level: shared by all blocks around which nothing sets one of them.</summary>
public sealed class LocationSettings
{
    // Root and alias are one setting in two forms.

    public Inherited<Template> Root;
    public bool IsAlias { get; set; }

    /// <summary>Bytes of the location's name that alias replaces.</summary>
    public int AliasLength { get; set; }

    public Inherited<long> MaxBodySize;
    public Inherited<long> ClientBodyBufferSizeSetting;
    public Inherited<long> ClientBodyTimeoutMs;
    public Inherited<int> ClientBodyInFileOnly;
    public Inherited<bool> ClientBodyInSingleBuffer;
    public Inherited<string> ClientBodyTempPath;
    public Inherited<long> SendTimeoutMs;
    public Inherited<long> KeepAliveTimeout;
    public Inherited<long> KeepAliveHeaderSec;
    public Inherited<long> KeepAliveMinTimeout;
    public Inherited<long> KeepAliveTime;
    public Inherited<int> KeepAliveRequestsSetting;
    public Inherited<int> KeepAliveDisable;
    public Inherited<LingeringClose> LingeringClose;
    public Inherited<long> LingeringTimeMs;
    public Inherited<long> LingeringTimeoutMs;
    public Inherited<bool> ResetTimedOutConnection;
    public Inherited<bool> TcpNoDelay;
    public Inherited<bool> TcpNoPush;
    public Inherited<long> SendLowat;
    public Inherited<long> PostponeOutput;
    public Inherited<bool> SendFile;
    public Inherited<long> SendFileMaxChunk;
    public Inherited<long> ReadAhead;
    public Inherited<long> DirectIo;
    public Inherited<long> OutputBuffersSize;
    public Inherited<Template> DefaultType;
    public Inherited<Template> LimitRate;
    public Inherited<Template> LimitRateAfter;
    public Inherited<bool> LogNotFound;
    public Inherited<bool> LogSubrequest;
    public Inherited<bool> RecursiveErrorPages;
    public Inherited<ServerTokens> ServerTokens;
    public Inherited<bool> ChunkedTransferEncoding;
    public Inherited<bool> ETag;
    public Inherited<IfModifiedSinceMode> IfModifiedSince;
    public Inherited<int> MaxRanges;
    public Inherited<bool> AbsoluteRedirect;
    public Inherited<bool> ServerNameInRedirect;
    public Inherited<bool> PortInRedirect;
    public Inherited<bool> MsiePadding;
    public Inherited<bool> MsieRefresh;
    public Inherited<Satisfy> SatisfyMode;
    public Inherited<SymlinkPolicy> DisableSymlinks;
    public Inherited<Template> DisableSymlinksFrom;
    public Inherited<int> SubrequestOutputBufferSize;
    public Inherited<long> AuthDelayMs;

    /// <summary>Where a request goes when it has been answered; "off" for nowhere.</summary>
    public Inherited<string> PostAction;
    public NativeSlice PostActionBytes { get; set; }

    /// <summary>Conditions under which 103 answers of upstreams are passed on; null or empty for never.</summary>
    public Inherited<Template[]?> EarlyHints;
    public InheritedList<ErrorPage> ErrorPages;
    public InheritedList<LogTarget> ErrorLogs;

    /// <summary>Extension (lower case) to type; null means: inherit.</summary>
    public Dictionary<string, NativeSlice>? OwnTypes { get; set; }

    // Frozen after merging.

    public MimeTypes Types { get; set; } = MimeTypes.Empty;
    public Log ErrorLog { get; set; } = null!;
    public long MaxBodyBytes { get; set; }
    public int ClientBodyBufferSize { get; set; }
    public int KeepAliveTimeoutMs { get; set; }
    public int KeepAliveRequests { get; set; }
    public long KeepAliveTimeMs { get; set; }
    public NativeSlice ServerHeader { get; set; }
}

/// <summary>An error_log as written: where and from which level.</summary>
public sealed record LogTarget(string Destination, LogLevel Level, ConfSpan Span);
