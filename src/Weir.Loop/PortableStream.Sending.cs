// How the portable stream sends: without blocking as long as the socket takes it, else through a buffer of its own; a
// piece of a file is read into that buffer on a thread that may wait. One loop's thread but for Completed and Work.
using System.Net.Sockets;
using Microsoft.Win32.SafeHandles;
using Weir.Kernel;

namespace Weir.Loop;

internal sealed partial class PortableStream
{
    protected override void Transmit(BufferChain chain)
    {
        while (!chain.IsEmpty && SendError == 0)
        {
            ref ChainSegment first = ref chain[0];
            if (_sendUnderWay)
            {
                // What a timeout left behind is still on its way.
                Fail(Errno.ETIMEDOUT);
                break;
            }
            if (first.IsFile)
            {
                Block(chain);
                ReadFileAsync(first.File!, first.FileOffset, (int)Math.Min(first.Length, SendBytes)).Forget();
                return;
            }
            int n = _socket!.Send(first.Memory.Span, SocketFlags.None, out SocketError error);
            if (error == SocketError.WouldBlock)
            {
                Block(chain);
                _sendBuffer ??= new byte[SendBytes];
                _sendCount = chain.CopyTo(_sendBuffer);
                BeginSend();
                return;
            }
            if (error != SocketError.Success)
            {
                Fail(PortableLoop.ErrnoOf(error));
                break;
            }
            Sent(chain, n);
        }
        Unblock();
    }

    /// <summary>A piece of a file into the stream's own buffer, on a thread that may wait, and then out.</summary>
    private async LoopTask ReadFileAsync(FileRef file, long offset, int count)
    {
        _sendBuffer ??= new byte[SendBytes];
        _fileRead ??= new FileRead();
        _fileRead.Prepare(file.Fd, offset, _sendBuffer.AsMemory(0, count));
        _sendUnderWay = true;
        file.AddReference();
        await _loop.Blocking.RunAsync(_fileRead);
        file.Release();
        if (!IsBlocked || IsClosed)
        {
            _sendUnderWay = false;
            return;
        }
        if (_fileRead.Count <= 0)
        {
            // The file became shorter than was promised.
            _sendUnderWay = false;
            Fail(Errno.EIO);
            Continue(0);
            return;
        }
        _sendCount = _fileRead.Count;
        BeginSend();
    }

    private void BeginSend()
    {
        if (_send is null)
        {
            _send = new SocketAsyncEventArgs();
            _send.Completed += (_, _) => _loop.Post(_onSent);
        }
        _send.SetBuffer(_sendBuffer, 0, _sendCount);
        _sendUnderWay = true;
        if (!_socket!.SendAsync(_send))
        {
            _loop.Ready(_onSent);
        }
    }

    private void OnSent()
    {
        _sendUnderWay = false;
        if (IsClosed || !IsBlocked)
        {
            return;
        }
        if (_send!.SocketError != SocketError.Success)
        {
            Fail(PortableLoop.ErrnoOf(_send.SocketError));
        }
        Continue(_send.BytesTransferred);
    }

    /// <summary>A read of a file on a thread that may wait.</summary>
    private sealed class FileRead : BlockingOperation
    {
        private int _fd;
        private long _offset;
        private Memory<byte> _into;

        /// <summary>Bytes read; 0 at the file's end, -1 for an error.</summary>
        internal int Count { get; private set; }

        internal void Prepare(int fd, long offset, Memory<byte> into)
        {
            _fd = fd;
            _offset = offset;
            _into = into;
        }

        protected internal override void Work()
        {
            using var handle = new SafeFileHandle(_fd, ownsHandle: false);
            try
            {
                Count = RandomAccess.Read(handle, _into.Span, _offset);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException or NotSupportedException)
            {
                Count = -1;
            }
        }
    }
}
