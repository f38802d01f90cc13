// Counts what is opened in directories, by whomever: inotify, which knows neither who nor how.
using System.Buffers.Binary;
using System.ComponentModel;
using System.Runtime.InteropServices;

namespace Weir.Tests.Harness;

/// <summary>Watches directories for files and directories being opened.</summary>
public sealed partial class OpenWatch : IDisposable
{
    private const uint InOpen = 0x20, InIsDirectory = 0x40000000, InOverflow = 0x4000;
    private const int NonBlock = 0x800, HeaderBytes = 16, Again = 11;

    private readonly int _fd;

    public OpenWatch(string[] directories)
    {
        _fd = inotify_init1(NonBlock);
        foreach (string directory in directories)
        {
            if (inotify_add_watch(_fd, directory, InOpen) < 0)
            {
                throw new Win32Exception(Marshal.GetLastPInvokeError(), directory);
            }
        }
    }

    /// <summary>How many directories and files were opened since the last call. The watched ones tell of themselves
    /// too.</summary>
    public (int Directories, int Files) Count()
    {
        int directories = 0, files = 0;
        byte[] buffer = new byte[65536];
        while (true)
        {
            nint have = read(_fd, buffer, buffer.Length);
            if (have <= 0)
            {
                return Marshal.GetLastPInvokeError() == Again ? (directories, files)
                    : throw new Win32Exception(Marshal.GetLastPInvokeError());
            }
            for (int at = 0; at < have;)
            {
                uint mask = BinaryPrimitives.ReadUInt32LittleEndian(buffer.AsSpan(at + 4));
                if ((mask & InOverflow) != 0)
                {
                    throw new InvalidOperationException("more was opened than the kernel keeps");
                }
                directories += (mask & InIsDirectory) != 0 ? 1 : 0;
                files += (mask & InIsDirectory) == 0 ? 1 : 0;
                at += HeaderBytes + BinaryPrimitives.ReadInt32LittleEndian(buffer.AsSpan(at + 12));
            }
        }
    }

    public void Dispose() => close(_fd);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int inotify_init1(int flags);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int inotify_add_watch(int fd, string path, uint mask);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint read(int fd, byte[] buffer, nint count);

    [LibraryImport("libc")]
    private static partial int close(int fd);
}
