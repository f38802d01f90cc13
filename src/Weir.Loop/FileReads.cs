// Reads of files that may wait for a disk, on threads of BlockingWork: how an engine reads that cannot ask the kernel
// for it. One loop's thread; the memory and the descriptor belong to the caller, who keeps both until the task is over.
using Weir.Kernel;
using Weir.Kernel.Net;

namespace Weir.Loop;

/// <summary>The reads of one loop.</summary>
internal sealed class FileReads(EventLoop loop)
{
    private readonly LoopPool<FileRead> _free = new(loop, "file reads");

    /// <summary>One read, or (with <paramref name="all"/>) reads through the whole range into the same
    /// memory.</summary>
    internal LoopTask<SysResult> RunAsync(int fd, NativeSlice into, long offset, long length, bool all)
    {
        FileRead read = _free.TryTake() ?? new FileRead(this);
        return read.RunAsync(fd, into, offset, length, all);
    }

    /// <summary>Reads through a range on an engine whose reads cost no thread.</summary>
    internal static async LoopTask<SysResult> WarmAsync(EventLoop loop, int fd, NativeSlice scratch, long offset,
        long length)
    {
        long done = 0;
        while (done < length)
        {
            int want = (int)Math.Min(scratch.Length, length - done);
            SysResult read = await loop.ReadFileAsync(fd, scratch.Slice(0, want), offset + done);
            if (read.IsError)
            {
                return read;
            }
            if (read.Value == 0)
            {
                break;
            }
            done += read.Value;
        }
        return new SysResult(done);
    }

    private sealed class FileRead(FileReads owner) : BlockingOperation
    {
        private int _fd;
        private NativeSlice _into;
        private long _offset;
        private long _length;
        private bool _all;
        private SysResult _result;

        internal async LoopTask<SysResult> RunAsync(int fd, NativeSlice into, long offset, long length, bool all)
        {
            _fd = fd;
            _into = into;
            _offset = offset;
            _length = length;
            _all = all;
            await owner.Blocking.RunAsync(this);
            SysResult result = _result;
            owner._free.Return(this);
            return result;
        }

        protected internal override void Work()
        {
            long done = 0;
            do
            {
                int want = (int)Math.Min(_into.Length, _length - done);
                SysResult read = Sys.ReadAt(_fd, _into.Slice(0, want), _offset + done);
                if (read.IsError)
                {
                    _result = read;
                    return;
                }
                if (read.Value == 0)
                {
                    break;
                }
                done += read.Value;
            }
            while (_all && done < _length);
            _result = new SysResult(done);
        }
    }

    private BlockingWork Blocking => loop.Blocking;
}
