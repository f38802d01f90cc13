// What a seed decides on the in-memory engine: how bytes are cut, what is late, which ready work goes first, which
// connection breaks where. Everything that happens is drawn from one generator in one order, so a seed is a replay.
// One loop's thread. Never drawn from by anything but the engine and the test that owns it.
namespace Weir.Loop;

/// <summary>A generator whose numbers follow from its seed alone (SplitMix64).</summary>
public sealed class SeededRandom(ulong seed)
{
    /// <summary>The same after the same draws.</summary>
    public ulong State { get; private set; } = seed;

    public ulong Next()
    {
        ulong z = State += 0x9E3779B97F4A7C15;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }

    /// <summary>A number from 0 to <paramref name="limit"/> - 1; 0 when the limit is 0.</summary>
    public int Below(int limit) => limit <= 1 ? 0 : (int)(Next() % (ulong)limit);

    /// <summary>True so many times in a thousand. Draws nothing when it can never be true.</summary>
    public bool Chance(int perMille) => perMille > 0 && Below(1000) < perMille;

    /// <summary>A size where small ones are as likely as large ones: 1 to <paramref name="max"/>.</summary>
    public int Size(int max)
    {
        int bits = System.Numerics.BitOperations.Log2((uint)Math.Max(max, 1)) + 1;
        return Math.Min(1 + Below(1 << (1 + Below(bits))), max);
    }

    public void Fill(Span<byte> into)
    {
        foreach (ref byte b in into)
        {
            b = (byte)Next();
        }
    }
}

/// <summary>How a direction of a connection ends before its writer meant it to.</summary>
public enum Cut : byte
{
    None,

    /// <summary>Both directions break.</summary>
    Reset,

    /// <summary>The reader sees an end; what is written later is lost.</summary>
    End,

    /// <summary>The reader sees nothing more, not even an end.</summary>
    Stall,
}

/// <summary>An engine that is wrong on purpose: what a simulation must find.</summary>
internal enum PlantedBug
{
    None,

    /// <summary>A short write puts the rest of a piece behind the piece after it.</summary>
    SendOvertakes,

    /// <summary>A wait for sending ends although bytes are left, when the socket is full.</summary>
    DrainTooEarly,

    /// <summary>The end of a closed connection is delivered to the next one in its slot.</summary>
    StaleCompletion,
}

/// <summary>The plan of one run. Rates are per thousand decisions; all zero is a network without weather.</summary>
public sealed class SimulationPlan
{
    public SimulationPlan(ulong seed)
    {
        Seed = seed;
        Random = new SeededRandom(seed);
        // What the server draws is a stream of its own: faults do not change its identifiers.
        ServerRandom = new SeededRandom(~seed);
        ClockRandom = new SeededRandom(seed ^ 0xC10C);
    }

    public ulong Seed { get; }

    public SeededRandom Random { get; }

    internal SeededRandom ServerRandom { get; }

    internal SeededRandom ClockRandom { get; }

    // Weather: nothing that a correct server may answer otherwise for.

    /// <summary>A delivery shows only some of the bytes that wait.</summary>
    public int Splits { get; init; }

    /// <summary>A delivery comes some milliseconds later.</summary>
    public int Delays { get; init; }

    /// <summary>The longest of these delays.</summary>
    public int DelayMsMax { get; init; } = 3;

    /// <summary>A send takes only some of what was given.</summary>
    public int ShortWrites { get; init; }

    /// <summary>A receive waits although bytes are there.</summary>
    public int SlowReceives { get; init; }

    /// <summary>Deliveries and ready work of a turn in any order.</summary>
    public bool Reorders { get; init; }

    /// <summary>Blocking work ends in a later turn.</summary>
    public int SlowWork { get; init; }

    /// <summary>Closed connections serve again, as the real engines' do.</summary>
    public bool Recycles { get; init; }

    /// <summary>Turns before which somebody sets the wall clock, by up to an hour either way.</summary>
    public int ClockSteps { get; init; }

    // Faults: an answer may be cut, or become a 502 or a 504.

    /// <summary>A connection that a peer opened, or one that the server opened, has a direction that is cut.</summary>
    public int ClientCuts { get; init; }
    public int UpstreamCuts { get; init; }

    /// <summary>The largest number of bytes after which a cut comes.</summary>
    public int CutBytesMax { get; init; } = 4096;

    /// <summary>Connecting is refused, or never answered.</summary>
    public int ConnectFaults { get; init; }

    /// <summary>A datagram is lost.</summary>
    public int LostDatagrams { get; init; }

    /// <summary>Faults that came into effect so far.</summary>
    public int Faults { get; internal set; }

    internal PlantedBug Planted { get; init; }

    /// <summary>A plan of weather only, its strength drawn from the seed.</summary>
    public static SimulationPlan Weather(ulong seed)
    {
        var draw = new SeededRandom(seed * 31 + 7);
        return new SimulationPlan(seed)
        {
            Splits = draw.Below(4) * 250,
            Delays = draw.Below(4) * 150,
            DelayMsMax = 1 + draw.Below(4),
            ShortWrites = draw.Below(4) * 200,
            SlowReceives = draw.Below(3) * 200,
            Reorders = draw.Chance(750),
            SlowWork = draw.Below(3) * 400,
            Recycles = draw.Chance(750),
        };
    }
}
