// What one system call of a stream writes, and when a file may be its source: only while its bytes are in the page
// cache, or the whole loop would wait for a disk. Whoever puts a slice into a chain has looked; a client that takes its
// time makes that old, so the stream looks again, and has the engine read what is gone. On the loop's thread; a read
// that outlives its connection holds its own references.
using System.Runtime.CompilerServices;
using Weir.Kernel;
using Weir.Kernel.Net;

namespace Weir.Loop;

internal abstract partial class SocketStream
{
    private const int GatherMax = 64;
    private const nuint HeldBytesMax = 128; // what is smaller waits for the file behind it

    /// <summary>Of a slice so much is looked for at once.</summary>
    private const long SeenBytesMax = 64 * 1024 * 1024;

    private const int ScratchBytes = 64 * 1024;

    private long _seenMs;
    private long _seenTo; // where in the file it ends, of what was looked at then
    private bool _isWarming;

    /// <summary>The thread waits for the client: it may wait for a disk too.</summary>
    private bool _isHolding;

    /// <summary>One system call's worth of the chain's front.</summary>
    private unsafe SysResult Write(BufferChain chain, out long wanted)
    {
        ref ChainSegment first = ref chain[0];
        wanted = Math.Min(first.Length, SendTurnBytes);
        if (first.IsFile)
        {
            SysResult n = Sys.SendFile(Fd, first.File!.Fd, first.FileOffset, wanted);
            // Nothing: the file became shorter than was promised.
            return n.Value == 0 ? SysResult.Error(Errno.EIO) : n;
        }
        return chain.Count == 1 ? Sys.Send(Fd, first.Pointer, (int)wanted, false) : WriteGathered(chain, out wanted);
    }

    [SkipLocalsInit]
    private unsafe SysResult WriteGathered(BufferChain chain, out long wanted)
    {
        IoVec* pieces = stackalloc IoVec[GatherMax];
        int count = chain.Gather(pieces, GatherMax, out wanted);
        bool more = count < chain.Count
            && (!chain[count].IsFile || chain[count].Length <= HeldFileBytes || pieces[0].Length < HeldBytesMax);
        return count == 1
            ? Sys.Send(Fd, (byte*)pieces[0].Base, (int)pieces[0].Length, more)
            : Sys.SendGathered(Fd, pieces, count, more);
    }

    private void SetSeen(long end, long atMs)
    {
        _seenMs = atMs;
        _seenTo = end;
    }

    /// <summary>Whether a disk would be waited for, as far as one can know.</summary>
    private bool IsCold(ref ChainSegment slice)
    {
        if (_isHolding || _isWarming)
        {
            return !_isHolding;
        }
        bool isOld = Loop.NowMs - _seenMs >= FileRef.SeenMsMax || slice.FileOffset >= _seenTo;
        return isOld && !IsCached(ref slice, SeenBytesMax) && !IsCached(ref slice, SendTurnBytes);
    }

    private bool IsCached(ref ChainSegment slice, long most)
    {
        long length = Math.Min(slice.Length, most);
        if (!slice.File!.IsCached(slice.FileOffset, length, Loop.NowMs))
        {
            return false;
        }
        SetSeen(slice.FileOffset + length, slice.File.SeenMs);
        return true;
    }

    private void Warm(ref ChainSegment slice)
    {
        if (!_isWarming)
        {
            WarmAsync(slice.File!, slice.FileOffset, Math.Min(slice.Length, SendTurnBytes)).Forget();
        }
    }

    /// <summary>Reads what is sent next, beside the loop. An error shows again when it is sent.</summary>
    private async LoopTask<Unit> WarmAsync(FileRef file, long offset, long length)
    {
        long number = Number;
        _isWarming = true;
        file.AddReference();
        BufferSlab scratch = Loop.Buffers.Rent(ScratchBytes);
        await Loop.WarmFileAsync(file.Fd, scratch.Memory, offset, length);
        scratch.Release();
        file.Release();
        // The object may serve another connection by now.
        if (Number == number && !IsClosed)
        {
            _isWarming = false;
            SetSeen(offset + length, Loop.NowMs);
            ContinueSend();
        }
        return default;
    }
}
