// A log_format, compiled: literal texts and variables with the escaping of the format. Lines are written into a buffer
// that its file owns; nothing is allocated once the buffer has its size.
using System.Numerics;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using Weir.Conf;
using Weir.Kernel;
using Weir.Session;

namespace Weir.Http.Modules;

internal enum LogEscape
{
    /// <summary>"\xHH" for quotes, backslashes, controls and bytes above 126; "-" for what is not found.</summary>
    Default,
    Json,
    None,
}

/// <summary>Bytes of lines that were not written out yet.</summary>
internal sealed class LogLines(int capacity)
{
    private byte[] _bytes = new byte[capacity];

    internal int Used { get; private set; }

    internal ReadOnlySpan<byte> Written => _bytes.AsSpan(0, Used);

    internal void Put(ReadOnlySpan<byte> text)
    {
        text.CopyTo(Room(text.Length));
        Used += text.Length;
    }

    internal void Put(byte c)
    {
        Room(1)[0] = c;
        Used++;
    }

    internal Span<byte> Room(int length)
    {
        if (_bytes.Length - Used < length)
        {
            Array.Resize(ref _bytes, Math.Max(_bytes.Length * 2, Used + length));
        }
        return _bytes.AsSpan(Used);
    }

    internal void Advance(int length) => Used += length;

    /// <summary>Drops what was written out.</summary>
    internal void Consume(int count)
    {
        _bytes.AsSpan(count, Used - count).CopyTo(_bytes);
        Used -= count;
    }
}

/// <summary>A compiled format.</summary>
internal sealed class LogFormat
{
    private readonly record struct Part(NativeSlice Literal, Variable? Variable);

    private readonly Part[] _parts;
    private readonly LogEscape _escape;

    private LogFormat(Part[] parts, LogEscape escape)
    {
        _parts = parts;
        _escape = escape;
    }

    internal static LogFormat? Compile(string[] texts, LogEscape escape, VariableTable variables, out string? error)
    {
        error = null;
        var parts = new List<Part>();
        var scanned = new List<ConfTemplatePart>();
        foreach (string text in texts)
        {
            if (!ConfTemplateScanner.TryScan(text, scanned, out error))
            {
                return null;
            }
            foreach (ConfTemplatePart part in scanned)
            {
                parts.Add(part.Kind == ConfTemplatePartKind.Literal
                    ? new Part(variables.Memory.Store(part.Text), null)
                    : new Part(default, variables.Use(part.Text)));
            }
        }
        return new LogFormat([.. parts], escape);
    }

    /// <summary>Writes a line without its end.</summary>
    internal void Write(HttpRequest r, LogLines lines)
    {
        foreach (ref readonly Part part in _parts.AsSpan())
        {
            if (part.Variable is null)
            {
                lines.Put(part.Literal.Span);
            }
            else if (r.TryGet(part.Variable, out NativeSlice value))
            {
                Escape(value.Span, lines);
            }
            else if (_escape == LogEscape.Default)
            {
                lines.Put((byte)'-');
            }
        }
    }

    private void Escape(ReadOnlySpan<byte> value, LogLines lines)
    {
        switch (_escape)
        {
            case LogEscape.Default:
                EscapeDefault(value, lines);
                break;
            case LogEscape.Json:
                EscapeJson(value, lines);
                break;
            default:
                lines.Put(value);
                break;
        }
    }

    internal static void EscapeDefault(ReadOnlySpan<byte> value, LogLines lines)
    {
        while (true)
        {
            int plain = PlainLength(value);
            lines.Put(value[..plain]);
            if (plain == value.Length)
            {
                return;
            }
            byte c = value[plain];
            lines.Put("\\x"u8);
            lines.Put("0123456789ABCDEF"u8[c >> 4]);
            lines.Put("0123456789ABCDEF"u8[c & 15]);
            value = value[(plain + 1)..];
        }
    }

    /// <summary>Bytes at the front that a line takes as they are.</summary>
    private static int PlainLength(ReadOnlySpan<byte> value)
    {
        ref byte first = ref MemoryMarshal.GetReference(value);
        int i = 0;
        for (; i <= value.Length - Vector128<byte>.Count; i += Vector128<byte>.Count)
        {
            Vector128<byte> v = Vector128.LoadUnsafe(ref first, (nuint)i);
            Vector128<byte> printable = v - Vector128.Create((byte)0x20);
            uint others = Vector128.AndNot(
                Vector128.Equals(Vector128.Min(printable, Vector128.Create((byte)(0x7E - 0x20))), printable),
                Vector128.Equals(v, Vector128.Create((byte)'"')) | Vector128.Equals(v, Vector128.Create((byte)'\\')))
                .ExtractMostSignificantBits() ^ 0xFFFF;
            if (others != 0)
            {
                return i + BitOperations.TrailingZeroCount(others);
            }
        }
        while ((uint)i < (uint)value.Length
            && value[i] is >= 0x20 and < 0x7F and not (byte)'"' and not (byte)'\\')
        {
            i++;
        }
        return i;
    }

    internal static void EscapeJson(ReadOnlySpan<byte> value, LogLines lines)
    {
        foreach (byte c in value)
        {
            if (c is (byte)'"' or (byte)'\\')
            {
                lines.Put((byte)'\\');
                lines.Put(c);
                continue;
            }
            if (c > 0x1F)
            {
                lines.Put(c);
                continue;
            }
            lines.Put((byte)'\\');
            switch (c)
            {
                case (byte)'\n':
                    lines.Put((byte)'n');
                    break;
                case (byte)'\r':
                    lines.Put((byte)'r');
                    break;
                case (byte)'\t':
                    lines.Put((byte)'t');
                    break;
                case (byte)'\b':
                    lines.Put((byte)'b');
                    break;
                case (byte)'\f':
                    lines.Put((byte)'f');
                    break;
                default:
                    lines.Put("u00"u8);
                    lines.Put((byte)('0' + (c >> 4)));
                    lines.Put("0123456789ABCDEF"u8[c & 15]);
                    break;
            }
        }
    }
}
