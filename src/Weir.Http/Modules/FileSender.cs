// Sends bytes of an open file as a response's body. What the page cache holds of a small file is read straight into
// slabs and leaves with the head in one send; larger files go as slices that are known to be cached before the kernel
// is asked to send them. A client that takes all at once gets sendfile_max_chunk of it in a turn of the loop, so that
// others are served. What is not cached is read by the engine (an entry of io_uring, a thread of BlockingWork
// elsewhere), so that the loop never waits for a disk. The sender takes over the caller's reference on the file.
using Weir.Kernel;
using Weir.Kernel.Net;
using Weir.Loop;
using Weir.Protocol.Http1;

namespace Weir.Http.Modules;

/// <summary>Bodies from files.</summary>
internal static class FileSender
{
    /// <summary>Files up to this size are sent from memory, where their bytes are kept or must be seen.</summary>
    internal const int MemoryBytesMax = 64 * 1024;

    /// <summary>Of an open file this much is rather copied than sent by the kernel: measured, above it a head and a
    /// sendfile cost less than one call that copies.</summary>
    internal const int CopyBytesMax = 8 * 1024;

    /// <summary>So much of a file is looked for in the page cache and given at once to a connection that looks again
    /// where a client takes its time.</summary>
    private const long WindowBytes = 64 * 1024 * 1024;

    private const int SlabBytes = 64 * 1024;

    /// <summary>Pushes what was found; its references are taken over.</summary>
    internal static LoopTask<PhaseResult> SendFoundAsync(HttpRequest r, ref FoundFile found)
    {
        if (found.File is { } file)
        {
            return SendWholeAsync(r, file, found.Status.Size);
        }
        if (found.Content is { } content)
        {
            r.Push(content.Memory.Slice(0, (int)found.Status.Size), content, PushFlags.Last);
            content.Release();
        }
        else
        {
            r.Push(default, null, PushFlags.Last);
        }
        return PhaseResult.Done;
    }

    /// <summary>Pushes a file whose head was sent, or of it what a range filter wants. The body may begin
    /// <paramref name="at"/> bytes into the file.</summary>
    internal static LoopTask<PhaseResult> SendWholeAsync(HttpRequest r, FileRef file, long size, long at = 0)
    {
        RangeFilter? ranges = r.Find(RangeFilter.Slot);
        if (ranges is { IsSingle: true })
        {
            ByteRange range = ranges[0];
            ranges.SkipTo(range.Start);
            return SendAsync(r, file, at + range.Start, at + range.End);
        }
        if (ranges is { IsMultiple: true } && size > MemoryBytesMax && !r.Response.HeaderOnly)
        {
            return SendPartsAsync(r, file, size, at, ranges);
        }
        return SendAsync(r, file, at, at + size);
    }

    /// <summary>Pushes [from, end) of the file and ends the body. The head was sent.</summary>
    internal static LoopTask<PhaseResult> SendAsync(HttpRequest r, FileRef file, long from, long end)
    {
        if (r.Response.HeaderOnly || r.IsHeadRefused || from >= end)
        {
            file.Release();
            r.Push(default, null, PushFlags.Last);
            return PhaseResult.Done;
        }
        if (end - from <= CopyBytesMax || end - from <= MemoryBytesMax && NeedsBytes(r))
        {
            BufferChain chain = r.Loop.RentChain();
            long at = from;
            int errno = ReadCached(r.Loop, file.Fd, chain, ref at, end);
            r.Push(chain, at == end ? PushFlags.Last : PushFlags.None);
            r.Loop.Return(chain);
            if (at == end)
            {
                file.Release();
                return PhaseResult.Done;
            }
            if (errno != Errno.EAGAIN)
            {
                return Fail(r, file, errno, at);
            }
            return SendReadAsync(r, file, at, end);
        }
        return NeedsBytes(r) ? SendReadAsync(r, file, from, end) : SendWindows(r, file, from, end);
    }

    private static bool NeedsBytes(HttpRequest r) =>
        r.BodyNeedsBytes || r.Stream.WantsBytes || !r.Location.SendFile.Value;

    /// <summary>Reads into slabs what needs no disk. Returns 0, EAGAIN when the rest is not cached, or another
    /// error.</summary>
    private static int ReadCached(EventLoop loop, int fd, BufferChain chain, ref long at, long end)
    {
        while (at < end)
        {
            int want = (int)Math.Min(end - at, SlabBytes);
            BufferSlab slab = loop.Buffers.Rent(want);
            SysResult read = ReadNow(fd, slab.Memory.Slice(0, want), at);
            if (read.Value > 0)
            {
                chain.AppendSlice(slab.Memory.Slice(0, read.Int), slab);
                at += read.Value;
            }
            slab.Release();
            if (read.Value <= 0)
            {
                return read.Errno;
            }
        }
        return 0;
    }

    internal static SysResult ReadNow(int fd, NativeSlice into, long at)
    {
        SysResult read = Sys.ReadCachedAt(fd, into, at);
        // A file system that cannot tell (tmpfs) is read as it is.
        return read.Errno is Errno.EOPNOTSUPP or Errno.ENOSYS ? Sys.ReadAt(fd, into, at) : read;
    }

    /// <summary>Reads piece by piece, waiting for the disk and for the client.</summary>
    private static async LoopTask<PhaseResult> SendReadAsync(HttpRequest r, FileRef file, long at, long end)
    {
        var row = new Row(r);
        while (at < end)
        {
            int want = (int)Math.Min(end - at, SlabBytes);
            BufferSlab slab = r.Loop.Buffers.Rent(want);
            SysResult read = ReadNow(file.Fd, slab.Memory.Slice(0, want), at);
            if (read.Errno == Errno.EAGAIN)
            {
                read = await r.Loop.ReadFileAsync(file.Fd, slab.Memory.Slice(0, want), at);
            }
            if (read.Value <= 0)
            {
                slab.Release();
                return Fail(r, file, read.Errno, at);
            }
            at += read.Value;
            r.Push(slab.Memory.Slice(0, read.Int), slab, at == end ? PushFlags.Last : PushFlags.None);
            slab.Release();
            if (at == end)
            {
                break;
            }
            LoopTask<bool> drained = r.Drained();
            bool isOver = row.IsOver(read.Value, drained.IsCompleted);
            if (!await drained)
            {
                break;
            }
            if (isOver)
            {
                await r.Loop.YieldAsync();
            }
        }
        file.Release();
        return PhaseResult.Done;
    }

    /// <summary>What one client gets in a row: <c>sendfile_max_chunk</c>, and no more than a connection sends by
    /// itself.</summary>
    private struct Row
    {
        private long _sent;

        internal Row(HttpRequest r)
        {
            long most = r.Location.SendFileMaxChunk.Value;
            Bytes = most > 0 ? Math.Min(most, Connection.SendTurnBytesMax) : Connection.SendTurnBytesMax;
        }

        internal long Bytes { get; }

        /// <summary>Whether others are to be served now: the client took so much without being waited for.</summary>
        internal bool IsOver(long bytes, bool atOnce)
        {
            _sent = atOnce ? _sent + bytes : 0;
            if (_sent < Bytes)
            {
                return false;
            }
            _sent = 0;
            return true;
        }
    }

    private static LoopTask<PhaseResult> SendWindows(HttpRequest r, FileRef file, long from, long end)
    {
        var row = new Row(r);
        long window = r.Stream.BeginFile(row.Bytes, r.Location.TcpNoPush.Value) ? WindowBytes : row.Bytes;
        if (end - from > window || !file.IsCached(from, end - from, r.Loop.NowMs))
        {
            return SendWindowsAsync(r, file, from, end, window, row);
        }
        PushWindow(r, file, from, end, isLast: true);
        file.Release();
        return PhaseResult.Done;
    }

    private static async LoopTask<PhaseResult> SendWindowsAsync(HttpRequest r, FileRef file, long from, long end,
        long window, Row row)
    {
        long at = from;
        while (true)
        {
            long length = Math.Min(end - at, window);
            if (!file.IsCached(at, length, r.Loop.NowMs))
            {
                if (length > row.Bytes)
                {
                    // No more than is read in a moment: the client waits for it.
                    window = row.Bytes;
                    continue;
                }
                BufferSlab scratch = r.Loop.Buffers.Rent(SlabBytes);
                SysResult read = await r.Loop.WarmFileAsync(file.Fd, scratch.Memory, at, length);
                scratch.Release();
                if (read.Value < length)
                {
                    return Fail(r, file, read.Errno, at);
                }
            }
            PushWindow(r, file, at, at + length, at + length == end);
            at += length;
            if (at == end)
            {
                break;
            }
            LoopTask<bool> drained = r.Drained();
            bool isOver = row.IsOver(length, drained.IsCompleted);
            if (!await drained)
            {
                break;
            }
            if (isOver)
            {
                await r.Loop.YieldAsync();
            }
        }
        file.Release();
        return PhaseResult.Done;
    }

    private static void PushWindow(HttpRequest r, FileRef file, long from, long end, bool isLast)
    {
        BufferChain chain = r.Loop.RentChain();
        chain.AppendFile(file, from, end - from);
        r.Push(chain, isLast ? PushFlags.Last : PushFlags.None);
        r.Loop.Return(chain);
    }

    /// <summary>Several ranges: the filter needs the whole body at once, as a slice of the file.</summary>
    private static async LoopTask<PhaseResult> SendPartsAsync(HttpRequest r, FileRef file, long size, long at,
        RangeFilter ranges)
    {
        for (int i = 0; i < ranges.Count; i++)
        {
            if (!file.IsCached(at + ranges[i].Start, ranges[i].Length, r.Loop.NowMs))
            {
                BufferSlab scratch = r.Loop.Buffers.Rent(SlabBytes);
                await r.Loop.WarmFileAsync(file.Fd, scratch.Memory, at + ranges[i].Start, ranges[i].Length);
                scratch.Release();
            }
        }
        BufferChain chain = r.Loop.RentChain();
        chain.AppendFile(file, at, size);
        r.Push(chain, PushFlags.Last);
        r.Loop.Return(chain);
        file.Release();
        return PhaseResult.Done;
    }

    private static PhaseResult Fail(HttpRequest r, FileRef file, int errno, long at)
    {
        if (r.Logs(LogLevel.Alert))
        {
            r.LogError(LogLevel.Alert, errno == 0 ? $"pread() found the file truncated at {at}" : "pread() failed",
                errno);
        }
        file.Release();
        r.Abort(AbortReason.Failed);
        return PhaseResult.Done;
    }
}
