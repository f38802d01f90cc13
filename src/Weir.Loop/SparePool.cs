// Free objects that belong to a thread rather than to a loop: boxes of suspended methods (one list for each method),
// watchers of tasks that nobody awaits, open files. Linked lists, so that renting costs a load and a store; each is
// capped, and a loop that has been idle trims those of its thread. Never touched by another thread.
namespace Weir.Loop;

/// <summary>One list of free objects.</summary>
internal abstract class SparePool
{
    /// <summary>Objects kept in one list at most.</summary>
    internal const int Max = LoopPool<object>.DefaultMax;

    [ThreadStatic]
    private static List<SparePool>? t_all;

    /// <summary>Objects that wait.</summary>
    internal int Count;

    protected SparePool() => (t_all ??= []).Add(this);

    /// <summary>Drops what is more than <paramref name="kept"/>.</summary>
    protected abstract void Drop(int kept);

    private int TrimTo(int kept)
    {
        int before = Count;
        if (before > kept)
        {
            Drop(kept);
        }
        return before - Count;
    }

    /// <summary>Those of this thread together, as a loop's trim and its status see them.</summary>
    internal sealed class OfThread : LoopPool
    {
        internal OfThread(EventLoop loop) : base(loop, "tasks")
        {
        }

        public override int Count
        {
            get
            {
                int count = 0;
                foreach (SparePool pool in t_all ?? [])
                {
                    count += pool.Count;
                }
                return count;
            }
        }

        protected internal override int TrimTo(int kept)
        {
            int dropped = 0;
            foreach (SparePool pool in t_all ?? [])
            {
                dropped += pool.TrimTo(kept);
            }
            return dropped;
        }
    }
}
