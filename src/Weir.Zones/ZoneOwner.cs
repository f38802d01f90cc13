// Who holds a count in a zone: a worker's slot in the table of counter slots, and which life of that slot. A count
// whose owner's life is over counts nothing any more, in the very moment in which the master gives the slot back:
// nobody has to sweep for it. Read by anybody; changed by the master alone.
namespace Weir.Zones;

/// <summary>One worker as zones know it.</summary>
public sealed class ZoneOwner
{
    private readonly CounterSlots? _slots;

    public ZoneOwner(CounterSlots slots, int slot)
        : this(slots, slot, slots.LifeOf(slot))
    {
    }

    private ZoneOwner(CounterSlots? slots, int slot, uint life)
    {
        _slots = slots;
        Slot = slot;
        Life = life;
    }

    /// <summary>The owner in a process that shares its zones with no other.</summary>
    public static ZoneOwner Alone { get; } = new(null, 1, 1);

    /// <summary>1 and up.</summary>
    public int Slot { get; }

    /// <summary>How often the slot had been given out when this owner got it.</summary>
    public uint Life { get; }

    /// <summary>The highest slot that was ever given out.</summary>
    public int SlotsUsed => Math.Max(_slots?.SlotsUsed ?? 1, Slot);

    /// <summary>How many owners have gone so far: while it stays, every count stays.</summary>
    public long Departures => _slots?.Departures ?? 0;

    /// <summary>Whether what this life of a slot holds still counts.</summary>
    public bool IsLive(int slot, uint life) =>
        slot == Slot ? life == Life : _slots is not null && _slots.IsLive(slot, life);
}
