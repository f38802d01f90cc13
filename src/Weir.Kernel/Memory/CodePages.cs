// The pages of the program's and its libraries' files that are mapped only to be read: code, constants, and the tables
// that a start unpacks once. Most of them are touched by the start alone. Dropped, they come back from the page cache
// when they are touched. Two things must be true of a mapping: it lies in a segment that its file declares read-only (a
// library that another thread is loading has its writable segments elsewhere), and no page of it was ever written (the
// stack cookie is, once, before it is protected). Called by a thread that nobody waits for.
using System.Buffers.Text;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Weir.Kernel;

/// <summary>The resident pages of code and constants.</summary>
public static unsafe partial class CodePages
{
    private const int MADV_DONTNEED = 4;
    private const uint PT_LOAD = 1, PF_W = 2;
    private const int BufferBytes = 16 * 1024;
    private const int SegmentsMax = 256;

    /// <summary>Unmaps what is resident now; what runs on comes back by a minor fault for sixteen pages. Returns the
    /// number of mappings that were dropped.</summary>
    public static int Drop()
    {
        SysResult fd = Descriptors.OpenRead("/proc/self/smaps");
        if (fd.IsError)
        {
            return 0;
        }
        var segments = (Segments*)NativeMemory.AllocZeroed((nuint)sizeof(Segments));
        dl_iterate_phdr(&Note, segments);
        byte* buffer = (byte*)NativeMemory.Alloc(BufferBytes);
        var all = new Span<byte>(buffer, BufferBytes);
        int filled = 0;
        var mapping = new Mapping { Known = segments };
        while (Descriptors.Read(fd.Int, all[filled..]) is { Value: > 0 } read)
        {
            filled += read.Int;
            int begin = 0;
            while (all[begin..filled].IndexOf((byte)'\n') is >= 0 and int length)
            {
                mapping.See(all.Slice(begin, length));
                begin += length + 1;
            }
            all[begin..filled].CopyTo(all);
            filled -= begin;
        }
        NativeMemory.Free(buffer);
        NativeMemory.Free(segments);
        Descriptors.Close(fd.Int);
        return mapping.DroppedCount;
    }

    /// <summary>The mapping whose lines are being read.</summary>
    private struct Mapping
    {
        private nuint _begin, _end;
        private bool _isCandidate;

        internal Segments* Known;
        internal int DroppedCount;

        /// <summary>Takes one line: "BEGIN-END r-xp OFFSET DEVICE INODE  PATH", or "Name:  N kB".</summary>
        internal void See(ReadOnlySpan<byte> line)
        {
            int colon = line.IndexOf((byte)':');
            int space = line.IndexOf((byte)' ');
            if (space > 0 && (colon < 0 || colon > space))
            {
                int dash = line.IndexOf((byte)'-');
                _isCandidate = Utf8Parser.TryParse(line[..dash], out ulong begin, out _, 'x')
                    && Utf8Parser.TryParse(line[(dash + 1)..space], out ulong end, out _, 'x')
                    && line[(space + 1)..] is [(byte)'r', (byte)'-', _, (byte)'p', ..]
                    && Known->Contain(_begin = (nuint)begin, _end = (nuint)end);
            }
            else if (_isCandidate && line.StartsWith("Anonymous:"u8))
            {
                _isCandidate = false;
                ReadOnlySpan<byte> number = line["Anonymous:".Length..].TrimStart((byte)' ');
                if (Utf8Parser.TryParse(number, out long kibibytes, out _) && kibibytes == 0)
                {
                    DroppedCount += madvise((void*)_begin, _end - _begin, MADV_DONTNEED) == 0 ? 1 : 0;
                }
            }
        }
    }

    /// <summary>The read-only segments of every object that is loaded.</summary>
    private struct Segments
    {
        private int _count;
        private fixed ulong _bounds[SegmentsMax * 2];

        internal void Add(ulong begin, ulong end)
        {
            if (_count < SegmentsMax)
            {
                _bounds[_count * 2] = begin;
                _bounds[_count++ * 2 + 1] = end;
            }
        }

        internal bool Contain(nuint begin, nuint end)
        {
            for (int i = 0; i < _count; i++)
            {
                if (begin >= _bounds[i * 2] && end <= _bounds[i * 2 + 1])
                {
                    return true;
                }
            }
            return false;
        }
    }

    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static int Note(LoadedObject* loaded, nuint bytes, Segments* segments)
    {
        ulong page = (ulong)Environment.SystemPageSize;
        for (int i = 0; i < loaded->HeaderCount; i++)
        {
            ref ProgramHeader header = ref loaded->Headers[i];
            if (header.Type == PT_LOAD && (header.Flags & PF_W) == 0)
            {
                ulong begin = loaded->Base + header.Address;
                segments->Add(begin & ~(page - 1), (begin + header.FileBytes + page - 1) & ~(page - 1));
            }
        }
        return 0;
    }

    // Both are filled by libc.
#pragma warning disable CS0649

    /// <summary>struct dl_phdr_info, of which more follows.</summary>
    private struct LoadedObject
    {
        public ulong Base;
        public byte* Name;
        public ProgramHeader* Headers;
        public ushort HeaderCount;
    }

    /// <summary>Elf64_Phdr.</summary>
    private struct ProgramHeader
    {
        public uint Type, Flags;
        public ulong Offset, Address, PhysicalAddress, FileBytes, MemoryBytes, Align;
    }

#pragma warning restore CS0649

    [LibraryImport("libc")]
    private static partial int dl_iterate_phdr(
        delegate* unmanaged[Cdecl]<LoadedObject*, nuint, Segments*, int> callback, Segments* segments);

    [LibraryImport("libc")]
    private static partial int madvise(void* address, nuint bytes, int advice);
}
