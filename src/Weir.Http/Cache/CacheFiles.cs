// The disk work of a cache as pieces for threads that may block: reading a file's head (and a small body), writing a
// file under another name until it is whole, renaming it into its place, replacing a head, removing. A file is only
// ever seen complete; what fails leaves no file and an error number. Nothing of the loop is touched here.
using Weir.Kernel;
using Weir.Kernel.Net;
using Weir.Loop;

namespace Weir.Http.Cache;

/// <summary>Reads a cache file: its head, and its body when that is small, into memory of the loop's.</summary>
internal sealed class CacheRead : BlockingOperation
{
    private string _path = "";
    private NativeSlice _into;

    /// <summary>0, an error number, or EINVAL for a file that is not whole.</summary>
    internal int Error { get; private set; }
    internal CacheFileHead Head;
    internal int Fd { get; private set; } = -1;

    /// <summary>Bytes that were read.</summary>
    internal int Length { get; private set; }
    internal bool HasBody { get; private set; }

    /// <param name="path">The file.</param>
    /// <param name="into">At least <see cref="CacheFileHead.BodyStartMax"/> bytes.</param>
    internal void Start(string path, NativeSlice into)
    {
        _path = path;
        _into = into;
        Error = 0;
        Fd = -1;
        Length = 0;
        HasBody = false;
    }

    protected override void Work()
    {
        SysResult opened = Sys.Open(_path, Sys.O_RDONLY);
        if (opened.IsError)
        {
            Error = opened.Errno;
            return;
        }
        Fd = opened.Int;
        Error = ReadAll();
        if (Error != 0 || HasBody)
        {
            Sys.Close(Fd);
            Fd = -1;
        }
    }

    private int ReadAll()
    {
        if (!Fill(CacheFileHead.HeadBytes) || !CacheFileHead.TryReadFixed(_into.Span[..Length], out Head))
        {
            return Errno.EINVAL;
        }
        SysResult status = Sys.Status(Fd, out FileStatus file);
        if (status.IsError || file.Size != Head.FileBytes)
        {
            return Errno.EINVAL;
        }
        HasBody = Head.FileBytes <= CacheMemory.WholeBytesMax;
        int want = HasBody ? (int)Head.FileBytes : Head.BodyStart;
        if (!Fill(want) || !CacheFileHead.TryRead(_into.Span[..Length], out Head))
        {
            HasBody = false;
            return Errno.EINVAL;
        }
        Length = want;
        return 0;
    }

    private bool Fill(int want)
    {
        while (Length < want)
        {
            SysResult read = Sys.ReadAt(Fd, _into.Slice(Length), Length);
            if (read.Value <= 0)
            {
                return false;
            }
            Length += read.Int;
        }
        return true;
    }
}

/// <summary>Writes a piece of a cache file, and completes it.</summary>
internal sealed class CacheWrite : BlockingOperation
{
    private const int O_Mode = 0x180;

    /// <summary>Where the file will be, and where it grows.</summary>
    internal string Path = "";
    internal string TempPath = "";
    internal int Fd = -1;

    /// <summary>Bytes before the body.</summary>
    internal int BodyStart;

    /// <summary>Bytes of the body that are in the file.</summary>
    internal long Written;
    internal BufferChain? Chain;

    /// <summary>Everything before the body; set with the last piece.</summary>
    internal NativeSlice Head;

    /// <summary>A file of its own that has to be in its place before this one.</summary>
    internal NativeSlice Marker;
    internal string MarkerPath = "";

    /// <summary>Bytes of another file that are the body.</summary>
    internal int CopyFd = -1;
    internal long CopyFrom;
    internal long CopyBytes;
    internal bool Completes;

    /// <summary>Only the head is written, into the file that <see cref="CopyFd"/> is.</summary>
    internal bool InPlace;

    /// <summary>Rights of the file; the modification time where it is not negative.</summary>
    internal int Mode = O_Mode;
    internal long ModifiedSec = -1;

    internal int Error;
    internal string FailedCall = "";

    internal void Renew()
    {
        Path = TempPath = MarkerPath = FailedCall = "";
        Fd = CopyFd = -1;
        BodyStart = 0;
        Written = CopyFrom = CopyBytes = 0;
        Chain = null;
        Head = Marker = default;
        Completes = InPlace = false;
        Mode = O_Mode;
        ModifiedSec = -1;
        Error = 0;
    }

    protected override void Work()
    {
        if (Error == 0)
        {
            Error = Run();
        }
        if (Error != 0 || Completes)
        {
            Abandon();
        }
    }

    private int Run()
    {
        if (InPlace)
        {
            return ReplaceHead();
        }
        if (Fd < 0)
        {
            int opened = Open(TempPath, out Fd);
            if (opened != 0)
            {
                return opened;
            }
        }
        int error = WriteChain();
        if (error == 0 && CopyBytes > 0)
        {
            error = Copy(CopyFd, CopyFrom, Fd, BodyStart, CopyBytes);
        }
        if (error != 0 || !Completes)
        {
            return error;
        }
        if (!Head.IsEmpty && (error = WriteAll(Fd, Head, 0)) != 0)
        {
            return error;
        }
        if (!Marker.IsEmpty && (error = WriteMarker()) != 0)
        {
            return error;
        }
        FailedCall = "rename()";
        if (ModifiedSec >= 0)
        {
            Descriptors.SetModified(Fd, ModifiedSec);
        }
        return MoveInto(TempPath, Path);
    }

    private int ReplaceHead()
    {
        FailedCall = "open()";
        SysResult opened = Sys.Open($"/proc/self/fd/{CopyFd}", Sys.O_WRONLY);
        if (opened.IsError)
        {
            return opened.Errno;
        }
        int error = WriteAll(opened.Int, Head, 0);
        Sys.Close(opened.Int);
        return error;
    }

    private int WriteMarker()
    {
        string temp = TempPath + ".m";
        int error = Open(temp, out int fd);
        if (error != 0)
        {
            return error;
        }
        error = WriteAll(fd, Marker, 0);
        Sys.Close(fd);
        if (error == 0)
        {
            error = MoveInto(temp, MarkerPath);
        }
        if (error != 0)
        {
            Descriptors.Unlink(temp);
        }
        return error;
    }

    private int Open(string path, out int fd)
    {
        FailedCall = "open()";
        SysResult opened = Sys.Open(path, Sys.O_CREAT | Sys.O_EXCL | Sys.O_RDWR, Mode);
        if (opened.Errno == Errno.ENOENT)
        {
            MakeDirectories(path);
            opened = Sys.Open(path, Sys.O_CREAT | Sys.O_EXCL | Sys.O_RDWR, Mode);
        }
        fd = opened.IsError ? -1 : opened.Int;
        if (opened.IsOk && Mode != O_Mode)
        {
            // Whatever the process's umask says.
            Descriptors.ChangeMode(path, (uint)Mode);
        }
        return opened.Errno;
    }

    /// <summary>Renames; copies first where that is another file system.</summary>
    private int MoveInto(string from, string to)
    {
        FailedCall = "rename()";
        SysResult moved = Descriptors.Rename(from, to);
        if (moved.Errno == Errno.ENOENT)
        {
            MakeDirectories(to);
            moved = Descriptors.Rename(from, to);
        }
        if (moved.Errno != Errno.EXDEV)
        {
            return moved.Errno;
        }
        string near = $"{to}.{System.IO.Path.GetFileName(from)}";
        SysResult source = Sys.Open(from, Sys.O_RDONLY);
        if (source.IsError)
        {
            return source.Errno;
        }
        int error = Open(near, out int fd);
        if (error == 0)
        {
            Sys.Status(source.Int, out FileStatus status);
            error = Copy(source.Int, 0, fd, 0, status.Size);
            if (ModifiedSec >= 0)
            {
                Descriptors.SetModified(fd, ModifiedSec);
            }
            Sys.Close(fd);
            FailedCall = "rename()";
            error = error != 0 ? error : Descriptors.Rename(near, to).Errno;
            if (error != 0)
            {
                Descriptors.Unlink(near);
            }
        }
        Sys.Close(source.Int);
        if (error == 0)
        {
            Descriptors.Unlink(from);
        }
        return error;
    }

    /// <summary>Who may read a file may go through its directory.</summary>
    private uint DirectoryMode => (uint)(Mode | 0x1C0 | (Mode & 0x124) >> 2);

    private void MakeDirectories(string path)
    {
        int slash = path.LastIndexOf('/');
        if (slash <= 0)
        {
            return;
        }
        string directory = path[..slash];
        if (Descriptors.MakeDirectory(directory, DirectoryMode).Errno == Errno.ENOENT)
        {
            MakeDirectories(directory);
            Descriptors.MakeDirectory(directory, DirectoryMode);
        }
    }

    private int WriteChain()
    {
        for (int i = 0; Chain is not null && i < Chain.Count; i++)
        {
            NativeSlice piece = Chain[i].Memory;
            int error = WriteAll(Fd, piece, BodyStart + Written);
            if (error != 0)
            {
                return error;
            }
            Written += piece.Length;
        }
        return 0;
    }

    private int WriteAll(int fd, NativeSlice bytes, long at)
    {
        FailedCall = "pwrite()";
        while (bytes.Length > 0)
        {
            SysResult written = Sys.WriteAt(fd, bytes, at);
            if (written.IsError)
            {
                if (written.Errno == Errno.EINTR)
                {
                    continue;
                }
                return written.Errno;
            }
            bytes = bytes.Slice(written.Int);
            at += written.Value;
        }
        return 0;
    }

    private int Copy(int from, long fromAt, int to, long toAt, long bytes)
    {
        using var memory = new NativeArena();
        NativeSlice buffer = memory.Allocate(64 * 1024);
        while (bytes > 0)
        {
            FailedCall = "pread()";
            SysResult read = Sys.ReadAt(from, buffer.Slice(0, (int)Math.Min(buffer.Length, bytes)), fromAt);
            if (read.Value <= 0)
            {
                return read.IsError ? read.Errno : Errno.EIO;
            }
            int error = WriteAll(to, buffer.Slice(0, read.Int), toAt);
            if (error != 0)
            {
                return error;
            }
            fromAt += read.Value;
            toAt += read.Value;
            bytes -= read.Value;
        }
        return 0;
    }

    /// <summary>Nothing more is written: the descriptor closes, and what is not in its place goes.</summary>
    private void Abandon()
    {
        if (Fd >= 0)
        {
            Sys.Close(Fd);
            Fd = -1;
            if (Error != 0)
            {
                Descriptors.Unlink(TempPath);
            }
        }
    }
}

/// <summary>Removes files.</summary>
internal sealed class CacheUnlink : BlockingOperation
{
    private readonly List<string> _paths = [];

    internal void Add(string path) => _paths.Add(path);

    internal int Removed { get; private set; }

    protected override void Work()
    {
        foreach (string path in _paths)
        {
            Removed += Descriptors.Unlink(path).IsOk ? 1 : 0;
        }
    }
}
