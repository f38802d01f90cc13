// PEM texts into OpenSSL's objects. Passwords are only offered, never asked for: a server has no terminal.
using System.Runtime.InteropServices;

namespace Weir.Tls;

internal static unsafe class TlsPem
{
    private const int PemLibrary = 9, NoStartLine = 108;

    internal struct Offered
    {
        public byte* Bytes;
        public int Length;
    }

    /// <summary>The last error only says that there are no more blocks; it is taken.</summary>
    internal static bool IsEnd()
    {
        nuint last = Native.ERR_peek_last_error();
        bool end = ((last >> 23) & 0xFF) == PemLibrary && (last & 0x7FFFFF) == NoStartLine;
        if (end)
        {
            Native.ERR_clear_error();
        }
        return end;
    }

    internal static nint ReadKey(ReadOnlySpan<byte> pem, ReadOnlySpan<byte> password)
    {
        fixed (byte* p = pem)
        fixed (byte* secret = password)
        {
            var offered = new Offered { Bytes = secret, Length = password.Length };
            nint bio = Native.BIO_new_mem_buf(p, pem.Length);
            nint key = Native.PEM_read_bio_PrivateKey(bio, null,
                (nint)(delegate* unmanaged<byte*, int, int, void*, int>)&Password, &offered);
            Native.BIO_free(bio);
            return key;
        }
    }

    [UnmanagedCallersOnly]
    internal static int Password(byte* into, int size, int writing, void* argument)
    {
        var offered = (Offered*)argument;
        if (offered->Bytes == null || offered->Length > size)
        {
            return -1;
        }
        new ReadOnlySpan<byte>(offered->Bytes, offered->Length).CopyTo(new Span<byte>(into, size));
        return offered->Length;
    }
}
