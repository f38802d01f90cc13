// The local end of a connection that a loop opens: an address, and whether it may be one that is not this machine's.
// Lives as long as the call it is given to; borrows the address.
namespace Weir.Loop;

/// <summary>Where an outgoing connection comes from; empty to let the kernel choose.</summary>
/// <param name="address">A native sockaddr.</param>
/// <param name="isTransparent">The address need not be this machine's (IP_TRANSPARENT; needs CAP_NET_RAW).</param>
public readonly ref struct LocalEnd(ReadOnlySpan<byte> address, bool isTransparent = false)
{
    public ReadOnlySpan<byte> Address { get; } = address;
    public bool IsTransparent { get; } = isTransparent;
    public bool IsEmpty => Address.IsEmpty;
}
