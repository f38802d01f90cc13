// Reads a directory with the status of every entry, sorted as nginx lists them (directories first, then by bytes), and
// the small texts of listings. Runs on a thread of BlockingWork; the entries belong to the request's state. Listings
// allocate: they are asked for by people.
using System.Buffers.Binary;
using System.Buffers.Text;
using Weir.Kernel;
using Weir.Kernel.Net;
using Weir.Loop;
using Weir.Protocol.Http1;

namespace Weir.Http.Modules;

internal readonly record struct DirectoryEntry(byte[] Name, bool IsDirectory, bool IsFile, bool IsLink,
    long ModifiedSec, long Size);

/// <summary>A directory's entries for one request.</summary>
internal sealed class DirectoryReader : RequestState
{
    private readonly Operation _operation = new();
    private byte[] _scratch = [];

    internal ReadOnlySpan<DirectoryEntry> Entries => _operation.Entries;

    /// <summary>The call that failed, as nginx's log names it.</summary>
    internal string FailedCall => _operation.FailedCall;

    internal async LoopTask<SysResult> ReadAsync(EventLoop loop, NativeSlice path)
    {
        _operation.Path = path;
        await loop.Blocking.RunAsync(_operation);
        return _operation.Result;
    }

    /// <summary>Space for texts that grow when they are escaped: a name has 255 bytes at most.</summary>
    internal byte[] Scratch(int length) => _scratch = _scratch.Length >= length ? _scratch : new byte[length];

    protected internal override void Reset()
    {
        _operation.Entries = [];
        _operation.Path = default;
    }

    private sealed class Operation : BlockingOperation
    {
        private const int BufferBytes = 32 * 1024;

        // DT_LNK of getdents64.
        private const byte TypeOfLink = 10;

        internal NativeSlice Path;
        internal DirectoryEntry[] Entries = [];
        internal SysResult Result;
        internal string FailedCall = "";

        protected override void Work()
        {
            FailedCall = "opendir()";
            SysResult opened = Sys.Open(Path, Sys.O_RDONLY | Sys.O_DIRECTORY | Sys.O_NONBLOCK);
            if (opened.IsError)
            {
                Result = opened;
                return;
            }
            using var memory = new NativeArena();
            NativeSlice buffer = memory.Allocate(BufferBytes);
            NativeSlice name = memory.Allocate(256);
            var entries = new List<DirectoryEntry>();
            while (true)
            {
                FailedCall = "readdir()";
                SysResult read = Sys.ReadDirectory(opened.Int, buffer);
                if (read.Value <= 0)
                {
                    Result = read;
                    break;
                }
                Take(opened.Int, buffer.Span[..read.Int], name, entries);
            }
            Sys.Close(opened.Int);
            Entries = [.. entries];
            Array.Sort(Entries, static (a, b) => a.IsDirectory != b.IsDirectory
                ? a.IsDirectory ? -1 : 1 : a.Name.AsSpan().SequenceCompareTo(b.Name));
        }

        /// <summary>Entries as the kernel lays them out: inode 8, offset 8, length 2, type 1, name.</summary>
        private static void Take(int directory, ReadOnlySpan<byte> raw, NativeSlice scratch,
            List<DirectoryEntry> entries)
        {
            while (raw.Length > 19)
            {
                int length = BinaryPrimitives.ReadUInt16LittleEndian(raw[16..]);
                ReadOnlySpan<byte> name = raw[19..length];
                name = name[..name.IndexOf((byte)0)];
                bool isLink = raw[18] == TypeOfLink;
                raw = raw[length..];
                if (name.IsEmpty || name[0] == '.')
                {
                    continue;
                }
                name.CopyTo(scratch.Span);
                scratch.Span[name.Length] = 0;
                NativeSlice path = scratch.Slice(0, name.Length);
                SysResult status = Sys.StatusAt(directory, path, followSymlink: true, out FileStatus found);
                if (status.Errno is Errno.ENOENT or Errno.ELOOP)
                {
                    // A link to nothing is listed as what it is.
                    status = Sys.StatusAt(directory, path, followSymlink: false, out found);
                }
                if (status.IsOk)
                {
                    entries.Add(new DirectoryEntry(name.ToArray(), found.IsDirectory, found.IsRegular,
                        isLink, found.ModifiedSec, found.Size));
                }
            }
        }
    }
}

/// <summary>Texts of listings.</summary>
internal static class ListingText
{
    /// <summary>Characters of a UTF-8 text; bytes when it is none.</summary>
    internal static int CharacterCount(ReadOnlySpan<byte> text)
    {
        int count = 0;
        foreach (byte b in text)
        {
            count += (b & 0xC0) == 0x80 ? 0 : 1;
        }
        return System.Text.Unicode.Utf8.IsValid(text) ? count : text.Length;
    }

    /// <summary>Bytes of the first characters of a UTF-8 text.</summary>
    internal static int BytesOf(ReadOnlySpan<byte> text, int characters)
    {
        if (!System.Text.Unicode.Utf8.IsValid(text))
        {
            return Math.Min(characters, text.Length);
        }
        int at = 0;
        while (at < text.Length && characters-- > 0)
        {
            at++;
            while (at < text.Length && (text[at] & 0xC0) == 0x80)
            {
                at++;
            }
        }
        return at;
    }

    /// <summary><c>28-Sep-1970 12:00</c></summary>
    internal static int WriteDate(long seconds, Span<byte> target)
    {
        Span<byte> date = stackalloc byte[HttpDate.Length];
        HttpDate.Format(seconds, date);
        // "Sun, 06 Nov 1994 08:49:37 GMT"
        date[5..7].CopyTo(target);
        target[2] = (byte)'-';
        date[8..11].CopyTo(target[3..]);
        target[6] = (byte)'-';
        date[12..16].CopyTo(target[7..]);
        target[11] = (byte)' ';
        date[17..22].CopyTo(target[12..]);
        return 17;
    }

    internal static int WritePadded(long value, int width, Span<byte> target)
    {
        Span<byte> digits = stackalloc byte[20];
        Utf8Formatter.TryFormat(value, digits, out int n);
        int pad = Math.Max(0, width - n);
        target[..pad].Fill((byte)' ');
        digits[..n].CopyTo(target[pad..]);
        return pad + n;
    }

    /// <summary>A size for people: bytes up to 9999, then K, M, G, rounded to the nearest.</summary>
    internal static int WriteShortSize(long size, Span<byte> target)
    {
        (int shift, byte unit) = size >= 1L << 30 ? (30, (byte)'G') : size >= 1L << 20 ? (20, (byte)'M')
            : size > 9999 ? (10, (byte)'K') : (0, (byte)0);
        if (shift == 0)
        {
            target[0] = (byte)' ';
            return 1 + WritePadded(size, 6, target[1..]);
        }
        long scaled = size >> shift;
        if ((size & ((1L << shift) - 1)) > (1L << (shift - 1)) - 1)
        {
            scaled++;
        }
        int n = WritePadded(scaled, 6, target);
        target[n] = unit;
        return n + 1;
    }

    internal static int EscapeJson(ReadOnlySpan<byte> text, Span<byte> target)
    {
        int n = 0;
        foreach (byte c in text)
        {
            if (c is (byte)'"' or (byte)'\\')
            {
                target[n++] = (byte)'\\';
                target[n++] = c;
            }
            else if (c >= 0x20)
            {
                target[n++] = c;
            }
            else
            {
                byte letter = c switch
                {
                    8 => (byte)'b',
                    9 => (byte)'t',
                    10 => (byte)'n',
                    12 => (byte)'f',
                    13 => (byte)'r',
                    _ => 0,
                };
                target[n++] = (byte)'\\';
                if (letter != 0)
                {
                    target[n++] = letter;
                    continue;
                }
                "u00"u8.CopyTo(target[n..]);
                target[n + 3] = (byte)('0' + (c >> 4));
                target[n + 4] = (byte)((c & 15) < 10 ? '0' + (c & 15) : 'A' + (c & 15) - 10);
                n += 5;
            }
        }
        return n;
    }

    /// <summary>A name of letters, digits, underscores, dots and dollars.</summary>
    internal static bool IsCallback(ReadOnlySpan<byte> text)
    {
        if (text.IsEmpty || text.Length > 128)
        {
            return false;
        }
        foreach (byte c in text)
        {
            bool fits = c is >= (byte)'a' and <= (byte)'z' or >= (byte)'A' and <= (byte)'Z'
                or >= (byte)'0' and <= (byte)'9'
                or (byte)'_' or (byte)'.' or (byte)'$';
            if (!fits)
            {
                return false;
            }
        }
        return true;
    }
}
