// OpenSSL's way to our bytes: a BIO whose state is one native struct with two windows, what was received and where
// records go. The callbacks touch nothing else. Without a window for output (handshakes, alerts, key updates) records
// go to a spill of the struct's own, which its session takes and frees; a full window makes OpenSSL ask again.
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Weir.Tls;

/// <summary>The windows of one session. Lives in native memory beside its SSL.</summary>
internal unsafe struct BioState
{
    public byte* Input;
    public int InputLeft;

    /// <summary>Where records go; null: to the spill.</summary>
    public byte* Output;
    public int OutputLeft;
    public byte* Spill;
    public int SpillLength;
    public int SpillCapacity;
    public byte IsBlockedOnOutput;
}

internal static unsafe class TlsBio
{
    private const int SourceSink = 0x0400, Descriptor = 0x0100;
    private const int FlagRead = 1, FlagWrite = 2, FlagsAll = 0x0F, FlagRetry = 8;
    private const int CtrlFlush = 11;

    private static nint s_method;

    internal static void Register()
    {
        int type = Native.BIO_get_new_index() | SourceSink;
        fixed (byte* name = "weir\0"u8)
        {
            s_method = Native.BIO_meth_new(type & ~Descriptor, name);
        }
        Native.BIO_meth_set_read_ex(s_method, (nint)(delegate* unmanaged<nint, byte*, nuint, nuint*, int>)&Read);
        Native.BIO_meth_set_write_ex(s_method, (nint)(delegate* unmanaged<nint, byte*, nuint, nuint*, int>)&Write);
        Native.BIO_meth_set_ctrl(s_method, (nint)(delegate* unmanaged<nint, int, nint, void*, nint>)&Control);
    }

    internal static nint New(BioState* state)
    {
        nint bio = Native.BIO_new(s_method);
        if (bio != 0)
        {
            Native.BIO_set_data(bio, state);
            Native.BIO_set_init(bio, 1);
        }
        return bio;
    }

    [UnmanagedCallersOnly]
    private static int Read(nint bio, byte* into, nuint length, nuint* read)
    {
        var state = (BioState*)Native.BIO_get_data(bio);
        Native.BIO_clear_flags(bio, FlagsAll);
        if (state->InputLeft == 0)
        {
            Native.BIO_set_flags(bio, FlagRead | FlagRetry);
            *read = 0;
            return 0;
        }
        int n = (int)Math.Min((nuint)state->InputLeft, length);
        Unsafe.CopyBlockUnaligned(into, state->Input, (uint)n);
        state->Input += n;
        state->InputLeft -= n;
        *read = (nuint)n;
        return 1;
    }

    [UnmanagedCallersOnly]
    private static int Write(nint bio, byte* from, nuint length, nuint* written)
    {
        var state = (BioState*)Native.BIO_get_data(bio);
        Native.BIO_clear_flags(bio, FlagsAll);
        if (state->Output == null)
        {
            int total = state->SpillLength + (int)length;
            if (total > state->SpillCapacity)
            {
                state->SpillCapacity = Math.Max(total, 2 * state->SpillCapacity);
                state->Spill = (byte*)NativeMemory.Realloc(state->Spill, (nuint)state->SpillCapacity);
            }
            Unsafe.CopyBlockUnaligned(state->Spill + state->SpillLength, from, (uint)length);
            state->SpillLength = total;
            *written = length;
            return 1;
        }
        if (state->OutputLeft == 0)
        {
            state->IsBlockedOnOutput = 1;
            Native.BIO_set_flags(bio, FlagWrite | FlagRetry);
            *written = 0;
            return 0;
        }
        int n = (int)Math.Min((nuint)state->OutputLeft, length);
        Unsafe.CopyBlockUnaligned(state->Output, from, (uint)n);
        state->Output += n;
        state->OutputLeft -= n;
        *written = (nuint)n;
        return 1;
    }

    [UnmanagedCallersOnly]
    private static nint Control(nint bio, int command, nint number, void* pointer) => command == CtrlFlush ? 1 : 0;
}
