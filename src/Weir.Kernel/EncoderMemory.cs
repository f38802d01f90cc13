// Memory of an encoder whose library cannot reset: what one body gave back serves the next, so that a body costs no
// fresh pages. One per encoder, used by the thread that runs it; its blocks go when the encoder is disposed.
using System.Runtime.InteropServices;

namespace Weir.Kernel;

/// <summary>Blocks that an encoder uses again.</summary>
internal unsafe struct EncoderMemory
{
    private Block* _free;

    /// <summary>Of all blocks, in use or not.</summary>
    internal nuint Bytes;

    internal long Allocations;

    /// <summary>Before each block's bytes; keeps them aligned as malloc's are.</summary>
    [StructLayout(LayoutKind.Sequential, Size = 16)]
    private struct Block
    {
        internal nuint Size;
        internal Block* Next;
    }

    internal static EncoderMemory* Create() => (EncoderMemory*)NativeMemory.AllocZeroed((nuint)sizeof(EncoderMemory));

    /// <summary>After the library gave everything back.</summary>
    internal static void Destroy(EncoderMemory* memory)
    {
        while (memory->_free != null)
        {
            Block* block = memory->_free;
            memory->_free = block->Next;
            NativeMemory.Free(block);
        }
        NativeMemory.Free(memory);
    }

    [UnmanagedCallersOnly]
    internal static void* Allocate(EncoderMemory* memory, nuint size)
    {
        // The smallest that is large enough, unless most of it would lie idle.
        Block** best = null;
        for (Block** at = &memory->_free; *at != null; at = &(*at)->Next)
        {
            nuint has = (*at)->Size;
            if (has >= size && has <= size * 2 && (best == null || has < (*best)->Size))
            {
                best = at;
            }
        }
        if (best != null)
        {
            Block* found = *best;
            *best = found->Next;
            return found + 1;
        }
        Block* fresh;
        try
        {
            fresh = (Block*)NativeMemory.Alloc(size + (nuint)sizeof(Block));
        }
        catch (OutOfMemoryException)
        {
            return null;
        }
        fresh->Size = size;
        memory->Bytes += size;
        memory->Allocations++;
        return fresh + 1;
    }

    [UnmanagedCallersOnly]
    internal static void Free(EncoderMemory* memory, void* bytes)
    {
        if (bytes != null)
        {
            Block* block = (Block*)bytes - 1;
            block->Next = memory->_free;
            memory->_free = block;
        }
    }
}
