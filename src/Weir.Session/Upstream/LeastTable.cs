// What least_conn and least_time compare, in dense rows: cost, weight in turn, weight. A choice among 1,000 servers
// is two passes of vector instructions over 20 KiB instead of a walk through a thousand records. The rows are the
// worker's own, or lie in the group's zone for all workers; then they are touched under its lock alone. Records stay
// what counts: rows are made from them, follow them (Refresh), and give the weights in turn back (Unload) before
// anything else changes. Nothing of a zone is kept in a field: another worker may have made the rows anew.
using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace Weir.Session.Upstream;

/// <summary>What rows say of themselves.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct LeastTableHead
{
    /// <summary>The group's <see cref="GroupRecord.Version"/> that they belong to; -1 while they are written.</summary>
    public long Version;

    /// <summary>When a server that was set aside may be tried again.</summary>
    public long ValidUntilMs;

    /// <summary>Whose rows they are, in which order.</summary>
    public ulong Signature;
    public long Recounts;
    public int Count;
    public int Capacity;
}

/// <summary>The rows of one list of a group's servers.</summary>
internal sealed class LeastTable(GroupState group, LeastBalancer balancer, bool backup)
{
    /// <summary>Shorter lists are walked.</summary>
    internal const int PeersMin = 8;

    private const int RowAlign = 16;
    private const int RowBytes = sizeof(double) + (3 * sizeof(int));

    private ulong[] _own = [];
    private ulong _signature;

    /// <summary>Rows as they lie in memory.</summary>
    private readonly ref struct Rows
    {
        private readonly Span<byte> _all;

        public Rows(Span<byte> all) => _all = all;

        public bool Exist => _all.Length > Unsafe.SizeOf<LeastTableHead>();
        public ref LeastTableHead Head => ref MemoryMarshal.AsRef<LeastTableHead>(_all);

        /// <summary>Positive infinity for who cannot serve.</summary>
        public Span<double> Costs => MemoryMarshal.Cast<byte, double>(
            _all.Slice(Unsafe.SizeOf<LeastTableHead>(), Head.Capacity * sizeof(double)));
        public Span<int> Turns => Numbers(0);
        public Span<int> Effective => Numbers(1);
        public Span<int> Weights => Numbers(2);

        private Span<int> Numbers(int row) => MemoryMarshal.Cast<byte, int>(_all.Slice(Unsafe.SizeOf<LeastTableHead>()
            + (Head.Capacity * (sizeof(double) + (row * sizeof(int)))), Head.Capacity * sizeof(int)));
    }

    /// <summary>The list is another one now.</summary>
    public void Changed() => _signature = 0;

    /// <summary>The index of the server to ask; -2 where the list has to be walked.</summary>
    public int Choose(List<Peer> peers, ref PeerWalk walk)
    {
        if (peers.Count < PeersMin || !IsInForce(peers) && !Load(peers))
        {
            return -2;
        }
        Rows rows = Find();
        Span<double> costs = rows.Costs;
        if (walk.IsFresh)
        {
            int least = Least(costs, rows.Turns, rows.Effective, rows.Weights);
            group.WroteMany();
            return least;
        }
        ReadOnlySpan<ulong> tried = walk.Tried;
        for (int word = 0; word < tried.Length; word++)
        {
            for (ulong bits = tried[word]; bits != 0; bits &= bits - 1)
            {
                costs[(word << 6) + BitOperations.TrailingZeroCount(bits)] = double.PositiveInfinity;
                group.Wrote();
            }
        }
        int best = Least(costs, rows.Turns, rows.Effective, rows.Weights);
        group.WroteMany();
        for (int word = 0; word < tried.Length; word++)
        {
            for (ulong bits = tried[word]; bits != 0; bits &= bits - 1)
            {
                int index = (word << 6) + BitOperations.TrailingZeroCount(bits);
                costs[index] = CostOf(peers[index]);
                group.Wrote();
            }
        }
        return best;
    }

    /// <summary>A server's connections or times have changed.</summary>
    public void Refresh(List<Peer> peers, Peer peer)
    {
        if (peers.Count >= PeersMin && IsInForce(peers))
        {
            if (peer.Place < peers.Count && peers[peer.Place] == peer)
            {
                Find().Costs[peer.Place] = CostOf(peer);
                group.Wrote();
            }
        }
        else
        {
            // A worker with another list may have made them: it would not learn of this.
            Unload(peers);
        }
    }

    /// <summary>Gives the weights in turn back to the records, before something changes.</summary>
    public void Unload(List<Peer> peers)
    {
        Rows rows = Find();
        if (rows.Exist && BelongsTo(in rows.Head, peers))
        {
            Span<int> turns = rows.Turns, effective = rows.Effective;
            for (int i = 0; i < peers.Count; i++)
            {
                ref PeerRecord record = ref peers[i].Record;
                record.CurrentWeight = turns[i];
                group.Wrote();
                record.EffectiveWeight = effective[i];
                group.Wrote();
            }
        }
        Entry = 0;
        group.Wrote();
    }

    private ref uint Entry => ref backup ? ref group.Record.BackupTable : ref group.Record.Table;

    private Rows Find()
    {
        uint entry = Entry;
        return entry == 0 ? default
            : new Rows(group.Zone is { } zone ? zone.Rows(entry) : MemoryMarshal.AsBytes(_own.AsSpan()));
    }

    private bool IsInForce(List<Peer> peers)
    {
        Rows rows = Find();
        return rows.Exist && BelongsTo(in rows.Head, peers) && group.Loop.NowMs < rows.Head.ValidUntilMs
            && rows.Head.Recounts == group.Record.Recounts;
    }

    private bool BelongsTo(in LeastTableHead head, List<Peer> peers) =>
        head.Version == group.Record.Version && head.Count == peers.Count && head.Signature == SignatureOf(peers);

    private double CostOf(Peer peer)
    {
        ref PeerRecord record = ref peer.Record;
        return record.CanServe(group.Loop.NowMs) ? (double)balancer.CostOf(peer, in record) / record.Weight
            : double.PositiveInfinity;
    }

    /// <summary>Makes the rows from the records; false where costs change by themselves or memory is missing.</summary>
    private bool Load(List<Peer> peers)
    {
        Unload(peers);
        if (!balancer.CostsRest)
        {
            return false;
        }
        long nowMs = group.Loop.NowMs;
        long untilMs = long.MaxValue;
        foreach (Peer peer in peers)
        {
            ref PeerRecord record = ref peer.Record;
            if (record.Weight <= 0 || group.Zone is not null && !peer.IsShared
                || record.SlowStartMs > 0 && record.SlowStartFromMs > 0
                    && nowMs - record.SlowStartFromMs < record.SlowStartMs)
            {
                return false;
            }
            untilMs = record.IsSetAside(nowMs)
                ? Math.Min(untilMs, (record.CheckedSec + record.FailTimeoutSec + 1) * 1000) : untilMs;
            untilMs = (record.Flags & PeerFlags.Ejected) != 0 && record.EjectedUntilMs > nowMs
                ? Math.Min(untilMs, record.EjectedUntilMs) : untilMs;
        }
        if (!Make(peers.Count))
        {
            return false;
        }
        Rows rows = Find();
        ref LeastTableHead head = ref rows.Head;
        head.Version = -1;
        group.Wrote();
        (head.Count, head.Signature) = (peers.Count, SignatureOf(peers));
        (head.ValidUntilMs, head.Recounts) = (untilMs, group.Record.Recounts);
        rows.Costs.Fill(double.PositiveInfinity);
        for (int i = 0; i < peers.Count; i++)
        {
            ref PeerRecord record = ref peers[i].Record;
            rows.Costs[i] = CostOf(peers[i]);
            rows.Turns[i] = record.CurrentWeight;
            rows.Effective[i] = record.EffectiveWeight;
            rows.Weights[i] = record.Weight;
        }
        group.WroteMany();
        head.Version = group.Record.Version;
        group.Wrote();
        return true;
    }

    private bool Make(int count)
    {
        int capacity = (count + RowAlign - 1) & ~(RowAlign - 1);
        int bytes = Unsafe.SizeOf<LeastTableHead>() + (capacity * RowBytes);
        if (group.Zone is { } zone)
        {
            Entry = zone.MakeRows(group.Group.Name.Span, backup, bytes);
            group.Wrote();
            if (Entry == 0)
            {
                return false;
            }
        }
        else
        {
            _own = _own.Length * sizeof(ulong) >= bytes ? _own : new ulong[(bytes + 7) / sizeof(ulong)];
            Entry = 1;
        }
        Find().Head.Capacity = capacity;
        group.Wrote();
        return true;
    }

    /// <summary>The same for workers that have the same servers in the same order.</summary>
    private ulong SignatureOf(List<Peer> peers)
    {
        if (_signature == 0)
        {
            ulong hash = 14695981039346656037;
            foreach (Peer peer in peers)
            {
                hash = (hash ^ peer.Block) * 1099511628211;
            }
            _signature = hash | 1;
        }
        return _signature;
    }

    /// <summary>The least cost; among equals the most weight in turn, after each has gained its own and before the
    /// one that is chosen pays for all.</summary>
    private static int Least(Span<double> costs, Span<int> turns, Span<int> effective, Span<int> weights)
    {
        ref double cost = ref MemoryMarshal.GetReference(costs);
        Vector128<double> least1 = Vector128.Create(double.PositiveInfinity), least2 = least1;
        for (int i = 0; i + 3 < costs.Length; i += 4)
        {
            least1 = Vector128.MinNative(least1, Vector128.LoadUnsafe(ref cost, (nuint)i));
            least2 = Vector128.MinNative(least2, Vector128.LoadUnsafe(ref cost, (nuint)i + 2));
        }
        least1 = Vector128.MinNative(least1, least2);
        double least = Math.Min(least1[0], least1[1]);
        if (double.IsPositiveInfinity(least))
        {
            return -1;
        }
        ref int turn = ref MemoryMarshal.GetReference(turns);
        ref int gain = ref MemoryMarshal.GetReference(effective);
        ref int weight = ref MemoryMarshal.GetReference(weights);
        Vector128<double> wanted = Vector128.Create(least);
        Vector128<int> total = default, count = default, best = Vector128.Create(int.MinValue), bestAt = default;
        Vector128<int> at = Vector128.Create(0, 1, 2, 3);
        for (nuint i = 0; i + 3 < (nuint)costs.Length; i += 4, at += Vector128.Create(4))
        {
            Vector128<long> low = Vector128.Equals(Vector128.LoadUnsafe(ref cost, i), wanted).AsInt64();
            Vector128<long> high = Vector128.Equals(Vector128.LoadUnsafe(ref cost, i + 2), wanted).AsInt64();
            if ((low | high) == default)
            {
                continue;
            }
            Vector128<int> equal = Vector128.Narrow(low, high);
            Vector128<int> gains = Vector128.LoadUnsafe(ref gain, i) & equal;
            Vector128<int> now = Vector128.LoadUnsafe(ref turn, i) + gains;
            now.StoreUnsafe(ref turn, i);
            total += gains;
            count -= equal;
            Vector128<int> grows = equal & Vector128.LessThan(gains, Vector128.LoadUnsafe(ref weight, i));
            (Vector128.LoadUnsafe(ref gain, i) - grows).StoreUnsafe(ref gain, i);
            // Nobody's weight in turn is the least number, so the first of a lane is taken as well.
            Vector128<int> better = equal & Vector128.GreaterThan(now, best);
            best = Vector128.ConditionalSelect(better, now, best);
            bestAt = Vector128.ConditionalSelect(better, at, bestAt);
        }
        int chosen = bestAt[0];
        int most = best[0];
        for (int lane = 1; lane < Vector128<int>.Count; lane++)
        {
            if (best[lane] > most || best[lane] == most && bestAt[lane] < chosen)
            {
                most = best[lane];
                chosen = bestAt[lane];
            }
        }
        int paid = Vector128.Sum(total);
        turns[chosen] -= paid;
        if (Vector128.Sum(count) == 1)
        {
            // It was alone: nothing went round. What it gained is what it has just paid.
            effective[chosen] = paid;
        }
        return chosen;
    }
}
