// crypt(3) of the system's libcrypt, for password files: every method that the system knows ($5$, $6$, $y$, $2b$, DES).
// Takes long by design, so it runs on blocking threads only; its scratch memory lives for one call.
using System.Runtime.InteropServices;

namespace Weir.Kernel;

/// <summary>Hashes a password with the system's methods.</summary>
public static unsafe partial class Crypt
{
    /// <summary>The largest crypt_data of the C libraries in use (glibc's own has 131,232 bytes).</summary>
    private const int DataBytes = 136 * 1024;

    /// <summary>Whether the password gives the hash. An errno when the method is unknown; ENOSYS without
    /// libcrypt.</summary>
    public static SysResult Verify(ReadOnlySpan<byte> password, ReadOnlySpan<byte> hash)
    {
        void* data = NativeMemory.AllocZeroed(DataBytes);
        try
        {
            fixed (byte* key = NulTerminated(password), salt = NulTerminated(hash))
            {
                byte* result = crypt_r(key, salt, data);
                if (result == null)
                {
                    int errno = Marshal.GetLastSystemError();
                    return SysResult.Error(errno == 0 ? Errno.EINVAL : errno);
                }
                ReadOnlySpan<byte> made = MemoryMarshal.CreateReadOnlySpanFromNullTerminated(result);
                return new SysResult(made.SequenceEqual(hash) ? 1 : 0);
            }
        }
        catch (DllNotFoundException)
        {
            return SysResult.Error(Errno.ENOSYS);
        }
        finally
        {
            NativeMemory.Clear(data, DataBytes);
            NativeMemory.Free(data);
        }
    }

    private static byte[] NulTerminated(ReadOnlySpan<byte> text)
    {
        byte[] bytes = new byte[text.Length + 1];
        text.CopyTo(bytes);
        return bytes;
    }

    [LibraryImport("libcrypt.so.1")]
    private static partial byte* crypt_r(byte* key, byte* salt, void* data);
}
