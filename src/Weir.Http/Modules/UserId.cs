// userid and its family: a cookie that tells clients apart, $uid_got, $uid_set and $uid_reset. State of a request: what
// its cookie said and what it is given; of a loop: the sequence of the numbers it gives.
using System.Buffers.Binary;
using Weir.Conf;
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;
using Weir.Session;

namespace Weir.Http.Modules;

internal enum UserIdMode
{
    Off,
    Log,
    V1,
    On,
}

internal sealed class UserIdSettings
{
    internal const long ForEver = long.MaxValue;

    internal const int FlagSecure = 2;
    internal const int FlagHttpOnly = 4;
    internal const int FlagStrict = 8;
    internal const int FlagLax = 16;
    internal const int FlagNone = 32;

    internal Inherited<UserIdMode> Mode;
    internal Inherited<long> Service;
    internal Inherited<string> Name;
    internal Inherited<string> Domain;
    internal Inherited<string> Path;
    internal Inherited<string> P3p;
    internal Inherited<long> ExpiresSec;
    internal Inherited<int> Flags;
    internal Inherited<byte> Mark;

    internal NativeSlice NameBytes { get; set; }

    /// <summary>"; domain=…; path=…" and the flags.</summary>
    internal NativeSlice Attributes { get; set; }
    internal NativeSlice P3pBytes { get; set; }

    /// <summary>$uid_reset; null where no cookies are given.</summary>
    internal Variable? Reset { get; set; }
}

internal sealed class UserIdModule : HttpModule<UserIdSettings>
{
    public override string Name => "http_userid_filter";

    public override bool InheritsWhole => true;

    public override void Declare(HttpDeclarations d)
    {
        d.Location<UserIdSettings>("userid", static (u, s) => u.SetEnum(ref s.Mode,
            [new ConfChoice<UserIdMode>("off", UserIdMode.Off), new("log", UserIdMode.Log), new("v1", UserIdMode.V1),
                new("on", UserIdMode.On)]));
        d.Location<UserIdSettings>("userid_service", static (u, s) =>
        {
            if (u.Walker.Fresh(u.Directive, in s.Service) && u.Walker.TryNumber(u.Directive, out long number))
            {
                s.Service.Set(number);
            }
        });
        d.Location<UserIdSettings>("userid_name", static (u, s) => u.SetText(ref s.Name));
        d.Location<UserIdSettings>("userid_domain", static (u, s) => u.SetText(ref s.Domain));
        d.Location<UserIdSettings>("userid_path", static (u, s) => u.SetText(ref s.Path));
        d.Location<UserIdSettings>("userid_p3p", static (u, s) => u.SetText(ref s.P3p));
        d.Location<UserIdSettings>("userid_expires", SetExpires);
        d.Location<UserIdSettings>("userid_flags", static (u, s) => u.SetBitmask(ref s.Flags,
            [new ConfChoice<int>("off", 1), new("secure", UserIdSettings.FlagSecure),
                new("httponly", UserIdSettings.FlagHttpOnly), new("samesite=strict", UserIdSettings.FlagStrict),
                new("samesite=lax", UserIdSettings.FlagLax), new("samesite=none", UserIdSettings.FlagNone)]));
        d.Location<UserIdSettings>("userid_mark", SetMark);
        d.Variable("uid_got", GetGot);
        d.Variable("uid_set", GetSet);
        d.Variable("uid_reset", static (Session.Session _, Variable _, ref NativeSlice _) => true,
            VariableFlags.Changeable);
    }

    private static void SetExpires(DirectiveUse use, UserIdSettings settings)
    {
        if (!use.Walker.Fresh(use.Directive, in settings.ExpiresSec))
        {
            return;
        }
        if (use[0] is "max" or "off")
        {
            settings.ExpiresSec.Set(use[0] == "max" ? UserIdSettings.ForEver : 0);
        }
        else if (ConfValues.TrySec(use[0], out long seconds))
        {
            settings.ExpiresSec.Set(seconds);
        }
        else
        {
            use.Complain("invalid value");
        }
    }

    private static void SetMark(DirectiveUse use, UserIdSettings settings)
    {
        if (!use.Walker.Fresh(use.Directive, in settings.Mark))
        {
            return;
        }
        if (use[0] == "off")
        {
            settings.Mark.Set(0);
        }
        else if (use[0].Length == 1 && (char.IsAsciiLetterOrDigit(use[0][0]) || use[0][0] == '='))
        {
            settings.Mark.Set((byte)use[0][0]);
        }
        else
        {
            use.Complain("value must be \"off\" or a single letter, digit or \"=\"");
        }
    }

    protected override void Merge(HttpBuild build, UserIdSettings parent, UserIdSettings child)
    {
        child.Mode.Merge(in parent.Mode, UserIdMode.Off);
        child.Service.Merge(in parent.Service, -1);
        child.Name.Merge(in parent.Name, "uid");
        child.Domain.Merge(in parent.Domain, "none");
        child.Path.Merge(in parent.Path, "/");
        child.P3p.Merge(in parent.P3p, "none");
        child.ExpiresSec.Merge(in parent.ExpiresSec, 0);
        child.Flags.Merge(in parent.Flags, 1);
        child.Mark.Merge(in parent.Mark, 0);
        child.NameBytes = build.Memory.Store(child.Name.Value);
        child.P3pBytes = child.P3p.Value == "none" ? default : build.Memory.Store(child.P3p.Value);
        if (child.Mode.Value >= UserIdMode.V1)
        {
            child.Reset = build.Configuration.Variables.Use("uid_reset");
        }
        int flags = child.Flags.Value;
        string text = (child.Domain.Value is "none" or "" ? "" : "; domain=" + child.Domain.Value)
            + "; path=" + child.Path.Value
            + ((flags & UserIdSettings.FlagSecure) != 0 ? "; secure" : "")
            + ((flags & UserIdSettings.FlagHttpOnly) != 0 ? "; httponly" : "")
            + ((flags & UserIdSettings.FlagStrict) != 0 ? "; samesite=strict" : "")
            + ((flags & UserIdSettings.FlagLax) != 0 ? "; samesite=lax" : "")
            + ((flags & UserIdSettings.FlagNone) != 0 ? "; samesite=none" : "");
        child.Attributes = build.Memory.Store(text);
    }

    public override void InstallLocation(LocationInstall install)
    {
        UserIdSettings settings = Settings(install.Location);
        if (settings.Mode.Value >= UserIdMode.V1)
        {
            install.AddFilter(FilterPlace.UserId, install.Shared(settings, static s => new UserIdFilter(s)));
        }
    }

    private bool GetGot(Session.Session session, Variable variable, ref NativeSlice value)
    {
        HttpRequest r = ((HttpRequest)session).Main;
        UserIdSettings settings = Settings(r.Location);
        if (settings.Mode.Value == UserIdMode.Off)
        {
            return false;
        }
        UserIdState state = UserIdState.Of(r, settings);
        return Write(r, settings, state.Got, ref value);
    }

    private bool GetSet(Session.Session session, Variable variable, ref NativeSlice value)
    {
        HttpRequest r = ((HttpRequest)session).Main;
        UserIdSettings settings = Settings(r.Location);
        if (settings.Mode.Value < UserIdMode.V1)
        {
            return false;
        }
        UserIdState state = UserIdState.Of(r, settings);
        state.Create(r, settings);
        return Write(r, settings, state.Given, ref value);
    }

    /// <summary>name=four words in hexadecimal; nothing for no identity.</summary>
    private static bool Write(HttpRequest r, UserIdSettings settings, UserIdWords words, ref NativeSlice value)
    {
        if (words.IsNone)
        {
            return false;
        }
        NativeSlice text = r.Arena.Allocate(settings.NameBytes.Length + 1 + UserIdWords.HexBytes);
        settings.NameBytes.Span.CopyTo(text.Span);
        text.Span[settings.NameBytes.Length] = (byte)'=';
        words.WriteHex(text.Span[(settings.NameBytes.Length + 1)..]);
        value = text;
        return true;
    }
}

/// <summary>An identity: sixteen bytes as they stand in the cookie; nginx's log shows them as four words of the
/// machine.</summary>
internal struct UserIdWords
{
    internal const int Bytes = 16;
    internal const int HexBytes = 32;

    internal uint A;
    internal uint B;
    internal uint C;
    internal uint D;

    internal readonly bool IsNone => D == 0;

    internal static UserIdWords Read(ReadOnlySpan<byte> bytes) => new()
    {
        A = BinaryPrimitives.ReadUInt32LittleEndian(bytes),
        B = BinaryPrimitives.ReadUInt32LittleEndian(bytes[4..]),
        C = BinaryPrimitives.ReadUInt32LittleEndian(bytes[8..]),
        D = BinaryPrimitives.ReadUInt32LittleEndian(bytes[12..]),
    };

    internal readonly void Write(Span<byte> bytes)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, A);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes[4..], B);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes[8..], C);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes[12..], D);
    }

    internal readonly void WriteHex(Span<byte> text)
    {
        WriteWord(A, text);
        WriteWord(B, text[8..]);
        WriteWord(C, text[16..]);
        WriteWord(D, text[24..]);
    }

    private static void WriteWord(uint word, Span<byte> text)
    {
        for (int i = 7; i >= 0; i--, word >>= 4)
        {
            uint digit = word & 15;
            text[i] = (byte)(digit + (digit < 10 ? '0' : 'A' - 10));
        }
    }
}

/// <summary>What a request's cookie said and what the answer gives.</summary>
internal sealed class UserIdState : RequestState
{
    private static readonly RequestSlot<UserIdState> s_slot = new();
    private static readonly LoopSlot<Sequence> s_sequence = new();

    private const int EncodedBytes = 22;
    private const uint FirstV2 = 0x03030302;

    private bool _isRead;

    internal NativeSlice Cookie { get; private set; }
    internal UserIdWords Got { get; private set; }
    internal UserIdWords Given { get; private set; }
    internal bool IsReset { get; private set; }

    private sealed class Sequence
    {
        internal uint Start;
        internal uint V1 = 1;
        internal uint V2 = FirstV2;
    }

    internal static UserIdState Of(HttpRequest r, UserIdSettings settings)
    {
        UserIdState state = r.Get(s_slot);
        if (!state._isRead)
        {
            state._isRead = true;
            state.Read(r, settings);
        }
        return state;
    }

    private void Read(HttpRequest r, UserIdSettings settings)
    {
        NativeSlice value = default;
        if (!VariablesHeaders.TryCookie(r, settings.NameBytes.Span, ref value))
        {
            return;
        }
        Cookie = value;
        if (value.Length < EncodedBytes)
        {
            r.LogError(LogLevel.Error, $"client sent too short userid cookie \"{value}\"");
            return;
        }
        // The mark and the padding stand behind it, and there are cookies about with something else there.
        Span<byte> bytes = stackalloc byte[UserIdWords.Bytes + 2];
        if (Base64Url.DecodePlain(value.Span[..EncodedBytes], bytes) != UserIdWords.Bytes)
        {
            r.LogError(LogLevel.Error, $"client sent invalid userid cookie \"{value}\"");
            return;
        }
        Got = UserIdWords.Read(bytes);
    }

    /// <summary>Decides what the answer gives; nothing where the client has what it needs.</summary>
    internal void Create(HttpRequest r, UserIdSettings settings)
    {
        if (!Given.IsNone)
        {
            return;
        }
        if (!Got.IsNone)
        {
            r.TryGet(settings.Reset!, out NativeSlice wish);
            if (wish.IsEmpty || wish.Span is [(byte)'0'])
            {
                byte mark = settings.Mark.Value;
                if (mark != 0 && (Cookie.Length <= EncodedBytes + 1 || Cookie.Span[EncodedBytes] != mark
                    || Cookie.Span[EncodedBytes + 1] != '='))
                {
                    Given = Got;
                }
                return;
            }
            IsReset = true;
            if (wish.Span.SequenceEqual("log"u8))
            {
                Span<byte> hex = stackalloc byte[UserIdWords.HexBytes];
                Got.WriteHex(hex);
                r.LogError(LogLevel.Notice, $"userid cookie \"{settings.NameBytes}="
                    + $"{System.Text.Encoding.ASCII.GetString(hex)}\" was reset");
            }
        }
        Sequence sequence = r.Loop.Slot(s_sequence, static loop => new Sequence
        {
            Start = (uint)(loop.UnixMs % 1000 * 50) << 16 | (uint)(Environment.ProcessId & 0xFFFF),
        });
        uint now = (uint)(r.Loop.UnixMs / 1000);
        long service = settings.Service.Value;
        if (settings.Mode.Value == UserIdMode.V1)
        {
            Given = new UserIdWords
            {
                A = service < 0 ? 0 : (uint)service, B = now, C = sequence.Start, D = sequence.V1,
            };
            sequence.V1 += 0x100;
            return;
        }
        Given = new UserIdWords
        {
            A = service < 0 ? LocalAddress(r) : BinaryPrimitives.ReverseEndianness((uint)service),
            B = BinaryPrimitives.ReverseEndianness(now),
            C = BinaryPrimitives.ReverseEndianness(sequence.Start),
            D = BinaryPrimitives.ReverseEndianness(sequence.V2),
        };
        sequence.V2 += 0x100;
        if (sequence.V2 < FirstV2)
        {
            sequence.V2 = FirstV2;
        }
    }

    /// <summary>The server's address, as it stands in memory.</summary>
    private static uint LocalAddress(HttpRequest r)
    {
        (SocketFamily family, UInt128 address) = Cidr.Read(r.Connection.LocalAddress);
        return family switch
        {
            SocketFamily.Inet => BinaryPrimitives.ReverseEndianness((uint)address),
            SocketFamily.Inet6 => (uint)(address >> 96),
            _ => 0,
        };
    }

    protected internal override bool SurvivesRedirect => true;

    protected internal override void Reset()
    {
        _isRead = false;
        Cookie = default;
        Got = default;
        Given = default;
        IsReset = false;
    }
}

internal sealed class UserIdFilter(UserIdSettings settings) : HeadFilter
{
    private const int CookieMax = 64;

    public override void OnHead(HttpRequest r)
    {
        if (!r.IsMain)
        {
            return;
        }
        UserIdState state = UserIdState.Of(r, settings);
        state.Create(r, settings);
        if (state.Given.IsNone)
        {
            return;
        }
        NativeSlice cookie = r.Arena.Allocate(settings.NameBytes.Length + settings.Attributes.Length + CookieMax + 24);
        var w = new SpanWriter(cookie.Span);
        w.Text(settings.NameBytes.Span);
        w.Write("="u8);
        byte mark = settings.Mark.Value;
        if (state.Got.IsNone || state.IsReset)
        {
            Span<byte> bytes = stackalloc byte[UserIdWords.Bytes];
            state.Given.Write(bytes);
            System.Buffers.Text.Base64.EncodeToUtf8(bytes, w.Rest, out _, out int n);
            if (mark != 0)
            {
                w.Rest[n - 2] = mark;
            }
            w.Skip(n);
        }
        else
        {
            w.Text(state.Cookie.Span[..22]);
            w.Write([mark, (byte)'=']);
        }
        if (settings.ExpiresSec.Value == UserIdSettings.ForEver)
        {
            w.Write("; expires=Thu, 31-Dec-37 23:55:55 GMT"u8);
        }
        else if (settings.ExpiresSec.Value > 0)
        {
            w.Write("; expires="u8);
            WriteTime(ref w, r.Loop.UnixMs / 1000 + settings.ExpiresSec.Value);
        }
        w.Text(settings.Attributes.Span);
        r.Response.Add(NativeSlice.Literal("Set-Cookie"u8), cookie.Slice(0, w.Written), KnownResponseHeader.SetCookie);
        if (!settings.P3pBytes.IsEmpty)
        {
            r.Response.Add(NativeSlice.Literal("P3P"u8), settings.P3pBytes, KnownResponseHeader.P3p);
        }
    }

    /// <summary>Old browsers take years of two digits up to 37, all of them take four after that.</summary>
    private static void WriteTime(ref SpanWriter w, long seconds)
    {
        Span<byte> date = stackalloc byte[HttpDate.Length];
        HttpDate.Format(seconds, date);
        const int yearAt = 12;
        date[7] = (byte)'-';
        date[11] = (byte)'-';
        w.Text(date[..yearAt]);
        bool isLong = CivilTime.FromUnix(seconds).Year > 2037;
        w.Text(isLong ? date[yearAt..] : date[(yearAt + 2)..]);
    }
}
