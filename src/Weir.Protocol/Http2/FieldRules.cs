// What RFC 9113 §8.2 asks of every field: names in lower case, values without controls and without white space at their
// ends, nothing of the connection. Pure, any thread, no memory.
using Weir.Protocol.Http1;

namespace Weir.Protocol.Http2;

/// <summary>Rules for names and values.</summary>
public static class FieldRules
{
    private const byte Invalid = 1, Upper = 2, Other = 4, Underscore = 8;

    /// <summary>0 for lower case letters, digits and hyphen.</summary>
    private static ReadOnlySpan<byte> NameClass =>
    [
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
        1, 4, 1, 4, 4, 4, 4, 4, 1, 1, 4, 4, 1, 0, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1,
        1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 4, 8,
        4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 4, 1, 4, 1,
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
    ];

    /// <summary>A field's name, which is no pseudo-header's. <paramref name="unusual"/> when nginx calls it invalid: a
    /// token, but with characters beyond letters, digits and hyphen (and underscore where allowed).</summary>
    public static Http2Reason Name(ReadOnlySpan<byte> name, bool underscores, out bool unusual)
    {
        ReadOnlySpan<byte> classes = NameClass;
        int seen = 0;
        foreach (byte c in name)
        {
            seen |= classes[c];
        }
        unusual = (seen & Other) != 0 || (seen & Underscore) != 0 && !underscores;
        return name.IsEmpty ? Http2Reason.EmptyFieldName
            : (seen & Invalid) != 0 ? Http2Reason.InvalidFieldName
            : (seen & Upper) != 0 ? Http2Reason.UpperCaseFieldName
            : Http2Reason.None;
    }

    /// <summary>A field's value.</summary>
    public static Http2Reason Value(ReadOnlySpan<byte> value) =>
        FieldLine.IndexOfStop(value, 0) >= 0
            || value.Length > 0 && (value[0] is (byte)' ' or (byte)'\t' || value[^1] is (byte)' ' or (byte)'\t')
            ? Http2Reason.InvalidFieldValue
            : Http2Reason.None;

    /// <summary>A name that may not come over HTTP/2 at all, or TE with another value than "trailers" (§8.2.2). Names
    /// are in lower case.</summary>
    public static Http2Reason Connection(ReadOnlySpan<byte> name, ReadOnlySpan<byte> value)
    {
        switch (name.Length)
        {
            case 2 when name.SequenceEqual("te"u8):
                return HeaderName.Same(value, "trailers"u8) ? Http2Reason.None : Http2Reason.InvalidTe;
            case 7 when name.SequenceEqual("upgrade"u8):
            case 10 when name.SequenceEqual("connection"u8) || name.SequenceEqual("keep-alive"u8):
            case 16 when name.SequenceEqual("proxy-connection"u8):
            case 17 when name.SequenceEqual("transfer-encoding"u8):
                return Http2Reason.ConnectionField;
            default:
                return Http2Reason.None;
        }
    }

    /// <summary>Whether a response header may go out over HTTP/2; names in any case.</summary>
    public static bool IsOfConnection(ReadOnlySpan<byte> name) => name.Length switch
    {
        7 => HeaderName.Same(name, "upgrade"u8),
        10 => HeaderName.Same(name, "connection"u8) || HeaderName.Same(name, "keep-alive"u8),
        16 => HeaderName.Same(name, "proxy-connection"u8),
        17 => HeaderName.Same(name, "transfer-encoding"u8),
        _ => false,
    };
}
