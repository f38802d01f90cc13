// What the zone of a cache holds: an entry per key, one record of the whole, and a mark per purge. Laid out for shared
// memory: fixed sizes, no references. An entry with its key and the table's own part fits 128 bytes.
using System.Runtime.InteropServices;

namespace Weir.Http.Cache;

/// <summary>A key's entry in shared memory.</summary>
[StructLayout(LayoutKind.Sequential, Size = 64)]
internal struct CacheEntry
{
    /// <summary>The number of the file that is in force; 0 while nobody has looked into a file that was
    /// found.</summary>
    public ulong Id;

    /// <summary>Who fetches it: a worker's counter slot and which life of it, or 0. A life that is over counts as
    /// none.</summary>
    public long LockOwner;

    /// <summary>With <see cref="LockOwner"/> the identity of the lock; when it may be taken away,
    /// milliseconds.</summary>
    public long LockUntilMs;

    /// <summary>Until then nobody waits for anybody: what was fetched cannot be stored.</summary>
    public long PassUntilMs;
    public long FileBytes;
    public uint UsedSec;
    public uint StatusUntilSec;
    public uint Uses;

    /// <summary>Purges up to this one were looked at.</summary>
    public uint PurgesSeen;
    public ushort Status;
    public byte Exists;

    /// <summary>How often the key was forgotten, whatever its file: what was asked for before is not
    /// published.</summary>
    public ushort Forgotten;
}

/// <summary>The record of a whole cache.</summary>
[StructLayout(LayoutKind.Sequential, Size = 64)]
internal struct CacheMeta
{
    /// <summary>Bytes of all files of entries.</summary>
    public long Bytes;

    /// <summary>The last purge.</summary>
    public uint Purges;

    /// <summary>How often the zone had been repaired when <see cref="Bytes"/> was last counted.</summary>
    public int RepairsSeen;

    /// <summary>How often marks of purges were taken out: whoever stands at one looks whether it changed.</summary>
    public uint MarkDrops;

    /// <summary>The last purge that is carried out on the disk: what was asked for before it and comes to the disk
    /// after it can no longer be compared.</summary>
    public uint PurgesDone;

    /// <summary>The loader has been through all files.</summary>
    public byte IsLoaded;

    /// <summary>The purges that an earlier server left behind are known.</summary>
    public byte HasReadMarks;
}

/// <summary>A purge that is not carried out on the disk yet; its key is the kind and the text.</summary>
[StructLayout(LayoutKind.Sequential, Size = 16)]
internal struct PurgeMark
{
    /// <summary>What was stored before is gone, milliseconds since 1970.</summary>
    public long AtMs;
    public uint Number;
}

/// <summary>What a purge names.</summary>
internal enum PurgeKind : byte
{
    /// <summary>All keys that begin with a text.</summary>
    Prefix = 1,

    /// <summary>All responses with a tag.</summary>
    Tag = 2,
}

/// <summary>What the index knows of a key.</summary>
/// <param name="Exists">There is a file.</param>
/// <param name="Id">The file's number; 0 while nobody has read it.</param>
/// <param name="Uses">How often it was asked for.</param>
/// <param name="Status">An error that is remembered in place of a response; 0 for none.</param>
/// <param name="LooksAtPurges">There were purges since somebody looked whether they mean this response.</param>
/// <param name="Forgotten">How often the key had been forgotten: what is asked for now is compared with it when it is
/// published.</param>
/// <param name="Purges">How many purges there had been; compared likewise.</param>
/// <param name="MarkDrops">How often marks of purges had been taken out: a response that was found since then is
/// compared with what there is no more.</param>
public readonly record struct CacheLook(bool Exists, ulong Id, uint Uses, int Status, bool LooksAtPurges,
    ushort Forgotten, uint Purges, uint MarkDrops);

/// <summary>What asking for the right to fetch came to.</summary>
public enum CacheLockOutcome : byte
{
    Taken,

    /// <summary>Somebody else fetches it.</summary>
    Busy,

    /// <summary>Go and fetch: nobody's answer serves another.</summary>
    Pass,
}

/// <summary>The entry to go first.</summary>
public readonly record struct CacheVictim(CacheKey Key, ulong Id, long UsedSec);
