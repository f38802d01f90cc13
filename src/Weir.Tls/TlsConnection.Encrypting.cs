// The encrypting half of a TLS connection: records are made of the front of the caller's chain, which stays there until
// the kernel has them.
using Weir.Kernel;
using Weir.Kernel.Net;
using Weir.Loop;

namespace Weir.Tls;

public sealed partial class TlsConnection
{
    public override bool LooksAgain => false;

    /// <summary>Encrypts up to a batch of the chain's front, which stays in the chain. Returns 0 or an error
    /// number.</summary>
    private int Encrypt(BufferChain plain)
    {
        _cipher ??= Loop.RentChain();
        BufferSlab? joined = null;
        long left = Math.Min(plain.Length, BatchBytesMax);
        int index = 0;
        long offset = 0;
        int error = 0;
        while (left > 0 && error == 0)
        {
            int want = (int)Math.Min(left, RecordBytes());
            ref ChainSegment segment = ref plain[index];
            long rest = segment.Length - offset;
            if (!segment.IsFile && (rest >= want || index + 1 == plain.Count))
            {
                // As much as the segment gives in whole records; the last one may be shorter.
                int direct = (int)Math.Min(rest, left);
                if (direct > want)
                {
                    direct = _firstRecordsLeft > 0 ? want : direct / want * want;
                }
                error = Encrypt(segment.Memory.Slice((int)offset, direct));
                Move(plain, ref index, ref offset, direct);
                left -= direct;
                continue;
            }
            joined ??= Loop.Buffers.Rent(TlsSession.RecordBytesMax);
            error = Join(plain, joined.Memory.Slice(0, want), ref index, ref offset);
            if (error == 0)
            {
                error = Encrypt(joined.Memory.Slice(0, want));
                left -= want;
            }
        }
        joined?.Release();
        return error;
    }

    private int RecordBytes()
    {
        int bytes = _session.Chosen.RecordBytes;
        return _firstRecordsLeft > 0 ? Math.Min(FirstRecordBytes, bytes) : bytes;
    }

    private static void Move(BufferChain plain, ref int index, ref long offset, long count)
    {
        offset += count;
        if (offset == plain[index].Length)
        {
            index++;
            offset = 0;
        }
    }

    /// <summary>Puts small pieces and file slices together so that they leave in one record.</summary>
    private static int Join(BufferChain plain, NativeSlice into, ref int index, ref long offset)
    {
        int filled = 0;
        while (filled < into.Length)
        {
            ref ChainSegment segment = ref plain[index];
            int count = (int)Math.Min(segment.Length - offset, into.Length - filled);
            if (segment.IsFile)
            {
                // Whoever put the slice there has seen to it that the bytes are cached.
                SysResult read = Sys.ReadAt(segment.File!.Fd, into.Slice(filled, count), segment.FileOffset + offset);
                if (read.Value <= 0)
                {
                    // The file became shorter than was promised.
                    return read.IsError ? read.Errno : Errno.EIO;
                }
                count = read.Int;
            }
            else
            {
                segment.Memory.Span.Slice((int)offset, count).CopyTo(into.Span[filled..]);
            }
            filled += count;
            Move(plain, ref index, ref offset, count);
        }
        return 0;
    }

    private int Encrypt(NativeSlice bytes)
    {
        BufferChain cipher = _cipher!;
        int room = Math.Min(bytes.Length + TlsSession.RecordOverheadBytesMax, CipherSlabBytes);
        while (true)
        {
            NativeSlice into = cipher.GetSlice(room);
            TlsStatus status = _session.Write(bytes, into, out int written);
            cipher.Advance(written);
            switch (status)
            {
                case TlsStatus.Done:
                    _inFlight += bytes.Length;
                    _firstRecordsLeft = Math.Max(0, _firstRecordsLeft - bytes.Length);
                    return 0;
                case TlsStatus.NeedsRoom:
                    room = TlsSession.RecordBytesMax + TlsSession.RecordOverheadBytesMax;
                    break;
                default:
                    return Errno.EPROTO;
            }
        }
    }
}
