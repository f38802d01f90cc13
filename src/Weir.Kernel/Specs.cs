// What a master opens for its workers, as values: listening sockets, log files, shared zones, secrets. A configuration
// asks for them by specification, the master opens each once and hands the descriptors over with the snapshot.
// Equality says "the same kernel object": a reload keeps what compares equal. Immutable, any thread, owns nothing.
namespace Weir.Kernel;

/// <summary>
/// A listening socket as the `listen` directive describes it. Equality is by address and socket type alone.
/// </summary>
public sealed record ListenSpec
{
    public const int DefaultBacklog = 511;

    public required SocketAddress Address { get; init; }

    /// <summary>A datagram socket (`udp`, `quic`) instead of a listening stream socket.</summary>
    public bool Datagram { get; init; }

    public int Backlog { get; init; } = DefaultBacklog;

    /// <summary>SO_RCVBUF in bytes, or -1 for the system's default.</summary>
    public int ReceiveBufferBytes { get; init; } = -1;

    /// <summary>SO_SNDBUF in bytes, or -1 for the system's default.</summary>
    public int SendBufferBytes { get; init; } = -1;

    /// <summary>One socket per worker (SO_REUSEPORT); the master keeps all of them.</summary>
    public bool ReusePort { get; init; }

    /// <summary>TCP_DEFER_ACCEPT.</summary>
    public bool DeferAccept { get; init; }

    /// <summary>IPV6_V6ONLY; nginx's default is on.</summary>
    public bool Ipv6Only { get; init; } = true;

    public ListenKeepAlive KeepAlive { get; init; }

    /// <summary>TCP_KEEPIDLE, TCP_KEEPINTVL in seconds and TCP_KEEPCNT; 0 leaves the system's value.</summary>
    public int KeepIdleSeconds { get; init; }

    public int KeepIntervalSeconds { get; init; }

    public int KeepCount { get; init; }

    /// <summary>TCP_FASTOPEN queue length, or -1 when off.</summary>
    public int FastOpenQueue { get; init; } = -1;

    /// <summary>IPPROTO_MPTCP instead of TCP.</summary>
    public bool Multipath { get; init; }

    public bool Equals(ListenSpec? other) =>
        other is not null && Address.Equals(other.Address) && Datagram == other.Datagram
        && Multipath == other.Multipath;

    public override int GetHashCode() => HashCode.Combine(Address, Datagram, Multipath);

    /// <summary>Whether every option besides the address is the same too.</summary>
    public bool SameOptions(ListenSpec other) =>
        Backlog == other.Backlog && ReceiveBufferBytes == other.ReceiveBufferBytes
        && SendBufferBytes == other.SendBufferBytes && ReusePort == other.ReusePort
        && DeferAccept == other.DeferAccept && Ipv6Only == other.Ipv6Only && KeepAlive == other.KeepAlive
        && KeepIdleSeconds == other.KeepIdleSeconds && KeepIntervalSeconds == other.KeepIntervalSeconds
        && KeepCount == other.KeepCount && FastOpenQueue == other.FastOpenQueue;
}

/// <summary>The `so_keepalive` parameter of `listen`.</summary>
public enum ListenKeepAlive : byte
{
    Unset,
    On,
    Off,
}

/// <summary>
/// A log file opened by the master for appending (created 0644), reopened on USR1. Equality is by path.
/// </summary>
/// <param name="Path">An absolute path, or <see cref="StandardError"/>.</param>
public sealed record LogSpec(string Path)
{
    /// <summary>The path that stands for descriptor 2 (`stderr` in nginx.conf), which is never reopened.</summary>
    public const string StandardError = "stderr";

    public bool IsStandardError => Path == StandardError;
}

/// <summary>A shared zone. Equality of all three keeps the memory over a reload; another size starts fresh.</summary>
/// <param name="Name">The zone's name, with the feature that owns it as a prefix (`limit_req:one`).</param>
/// <param name="SizeBytes">Bytes of the mapping, a multiple of the page size.</param>
/// <param name="LayoutId">What the owner's records look like; another build with another layout starts fresh.</param>
public sealed record ZoneSpec(string Name, long SizeBytes, ulong LayoutId);

/// <summary>Bytes that only the master may read (a private key), handed over as a sealed memfd.</summary>
/// <param name="Path">The file, or a name with a scheme (`data:`) for bytes that came from elsewhere.</param>
public sealed record SecretSpec(string Path);
