// secure_link, secure_link_md5, secure_link_secret: whether a link carries the digest that only who knows the secret
// can make, and whether its time has passed. State of a request: the time in the link, for $secure_link_expires.
using System.Buffers.Text;
using Weir.Conf;
using Weir.Kernel;
using Weir.Protocol.Digests;
using Weir.Session;

namespace Weir.Http.Modules;

internal sealed class SecureLinkSettings
{
    internal Inherited<Template> Link;
    internal Inherited<Template> Digest;
    internal Inherited<string> Secret;
    internal NativeSlice SecretBytes;
}

/// <summary>The time that the link of a request carries.</summary>
internal sealed class SecureLinkState : RequestState
{
    internal static readonly RequestSlot<SecureLinkState> Slot = new();

    internal NativeSlice Expires;

    protected internal override void Reset() => Expires = default;
}

internal sealed class SecureLinkModule : HttpModule<SecureLinkSettings>
{
    private const int EncodedMax = 24;

    public override string Name => "http_secure_link";

    public override bool InheritsWhole => true;

    public override void Declare(HttpDeclarations d)
    {
        d.Location<SecureLinkSettings>("secure_link", static (u, s) => u.SetTemplate(ref s.Link));
        d.Location<SecureLinkSettings>("secure_link_md5", static (u, s) => u.SetTemplate(ref s.Digest));
        d.Location<SecureLinkSettings>("secure_link_secret", static (u, s) => u.SetText(ref s.Secret));
        d.Variable("secure_link", Check);
        d.Variable("secure_link_expires", static (Session.Session s, Variable _, ref NativeSlice value) =>
        {
            value = ((HttpRequest)s).Find(SecureLinkState.Slot)?.Expires ?? default;
            return !value.IsEmpty;
        });
    }

    protected override void Merge(HttpBuild build, SecureLinkSettings parent, SecureLinkSettings child)
    {
        if (child.Secret.IsSet)
        {
            if (child.Link.IsSet || child.Digest.IsSet)
            {
                build.Errors.Emerg("\"secure_link_secret\" cannot be mixed with \"secure_link\" and "
                    + "\"secure_link_md5\"", null, null);
                return;
            }
            child.SecretBytes = build.Memory.Store(child.Secret.Value);
            return;
        }
        child.Link.Merge(in parent.Link, null!);
        child.Digest.Merge(in parent.Digest, null!);
        if (child.Link.Value is null && child.Digest.Value is null)
        {
            child.Secret.Merge(in parent.Secret, null!);
            child.SecretBytes = parent.SecretBytes;
        }
    }

    private bool Check(Session.Session session, Variable variable, ref NativeSlice value)
    {
        var r = (HttpRequest)session;
        SecureLinkSettings settings = Settings(r.Location);
        if (settings.Secret.Value is not null)
        {
            return CheckSecret(r, settings.SecretBytes, ref value);
        }
        if (settings.Link.Value is null || settings.Digest.Value is null)
        {
            return false;
        }
        NativeSlice link = settings.Link.Value.Evaluate(r);
        int comma = link.Span.IndexOf((byte)',');
        long expires = 0;
        if (comma >= 0)
        {
            NativeSlice time = link.Slice(comma + 1);
            link = link.Slice(0, comma);
            if (!Utf8Parser.TryParse(time.Span, out expires, out int read) || read != time.Length
                || expires <= 0 || time.Span[0] is (byte)'+' or (byte)'-')
            {
                return false;
            }
            r.Get(SecureLinkState.Slot).Expires = time;
        }
        Span<byte> given = stackalloc byte[Md5.Length + 2];
        if (link.Length > EncodedMax || Base64Url.Decode(link.Span, given) != Md5.Length)
        {
            return false;
        }
        Span<byte> made = stackalloc byte[Md5.Length];
        var md5 = new Md5(stackalloc byte[64]);
        md5.Add(settings.Digest.Value.Evaluate(r).Span);
        md5.Finish(made);
        if (!given[..Md5.Length].SequenceEqual(made))
        {
            return false;
        }
        value = expires != 0 && expires < r.Loop.UnixMs / 1000 ? NativeSlice.Literal("0"u8)
            : NativeSlice.Literal("1"u8);
        return true;
    }

    /// <summary>The older form: /prefix/hash/link, and the link is the value.</summary>
    private static bool CheckSecret(HttpRequest r, NativeSlice secret, ref NativeSlice value)
    {
        ReadOnlySpan<byte> uri = r.UnparsedUri.Span;
        int first = uri.Length > 1 ? uri[1..].IndexOf((byte)'/') : -1;
        if (first < 0)
        {
            return false;
        }
        int hash = first + 2;
        int length = uri[hash..].IndexOf((byte)'/');
        int link = hash + length + 1;
        if (length != 2 * Md5.Length || link == uri.Length)
        {
            return false;
        }
        Span<byte> made = stackalloc byte[Md5.Length];
        var md5 = new Md5(stackalloc byte[64]);
        md5.Add(uri[link..]);
        md5.Add(secret.Span);
        md5.Finish(made);
        Span<byte> given = stackalloc byte[Md5.Length];
        if (!TryReadHex(uri.Slice(hash, length), given) || !given.SequenceEqual(made))
        {
            return false;
        }
        value = r.UnparsedUri.Slice(link);
        return true;
    }

    private static bool TryReadHex(ReadOnlySpan<byte> text, Span<byte> bytes)
    {
        for (int i = 0; i < bytes.Length; i++)
        {
            int high = HexDigit(text[2 * i]), low = HexDigit(text[2 * i + 1]);
            if ((high | low) < 0)
            {
                return false;
            }
            bytes[i] = (byte)(high << 4 | low);
        }
        return true;
    }

    private static int HexDigit(byte c) => c switch
    {
        >= (byte)'0' and <= (byte)'9' => c - '0',
        >= (byte)'a' and <= (byte)'f' => c - 'a' + 10,
        >= (byte)'A' and <= (byte)'F' => c - 'A' + 10,
        _ => -1,
    };
}

/// <summary>Base64 as links carry it: '-' and '_', padding or none.</summary>
internal static class Base64Url
{
    /// <summary>Bytes written, or -1 for a text that is none.</summary>
    internal static int Decode(ReadOnlySpan<byte> text, Span<byte> target) => Decode(text, target, isUrl: true);

    /// <summary>The ordinary alphabet, '+' and '/'.</summary>
    internal static int DecodePlain(ReadOnlySpan<byte> text, Span<byte> target) => Decode(text, target, isUrl: false);

    private static int Decode(ReadOnlySpan<byte> text, Span<byte> target, bool isUrl)
    {
        int padding = text.IndexOf((byte)'=');
        if (padding >= 0)
        {
            // As nginx: what follows the first '=' is not looked at.
            text = text[..padding];
        }
        if (text.Length % 4 == 1)
        {
            return -1;
        }
        int written = 0;
        uint bits = 0;
        int count = 0;
        foreach (byte c in text)
        {
            int digit = Digit(c, isUrl);
            if (digit < 0)
            {
                return -1;
            }
            bits = (bits << 6) | (uint)digit;
            count += 6;
            if (count >= 8)
            {
                count -= 8;
                target[written++] = (byte)(bits >> count);
            }
        }
        return written;
    }

    private static int Digit(byte c, bool isUrl) => c switch
    {
        >= (byte)'A' and <= (byte)'Z' => c - 'A',
        >= (byte)'a' and <= (byte)'z' => c - 'a' + 26,
        >= (byte)'0' and <= (byte)'9' => c - '0' + 52,
        (byte)'+' when !isUrl => 62,
        (byte)'/' when !isUrl => 63,
        (byte)'-' when isUrl => 62,
        (byte)'_' when isUrl => 63,
        _ => -1,
    };
}
