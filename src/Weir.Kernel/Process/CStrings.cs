// Native strings and string arrays for calls that take char* and char**: allocated, used, freed in one breath.
// Start-up and control plane only. Single owner; dispose in the method that made it.
using System.Runtime.InteropServices;
using System.Text;

namespace Weir.Kernel;

/// <summary>One zero-terminated UTF-8 string in native memory.</summary>
internal readonly unsafe ref struct CString
{
    public readonly byte* Pointer;

    public CString(string text)
    {
        int bytes = Encoding.UTF8.GetByteCount(text);
        Pointer = (byte*)NativeMemory.Alloc((nuint)bytes + 1);
        Encoding.UTF8.GetBytes(text, new Span<byte>(Pointer, bytes));
        Pointer[bytes] = 0;
    }

    public void Dispose() => NativeMemory.Free(Pointer);
}

/// <summary>A null-terminated array of zero-terminated UTF-8 strings in native memory.</summary>
internal readonly unsafe ref struct CStringArray
{
    public readonly byte** Pointer;

    public CStringArray(IReadOnlyList<string> items)
    {
        int total = 0;
        foreach (string item in items)
        {
            total += Encoding.UTF8.GetByteCount(item) + 1;
        }
        nuint table = (nuint)((items.Count + 1) * sizeof(byte*));
        Pointer = (byte**)NativeMemory.Alloc(table + (nuint)total);
        byte* at = (byte*)Pointer + table;
        for (int i = 0; i < items.Count; i++)
        {
            Pointer[i] = at;
            int bytes = Encoding.UTF8.GetBytes(items[i], new Span<byte>(at, total));
            at[bytes] = 0;
            at += bytes + 1;
            total -= bytes + 1;
        }
        Pointer[items.Count] = null;
    }

    public void Dispose() => NativeMemory.Free(Pointer);
}
