// Runs what the cache processes do, on a loop: a task per cache for the manager and one for the loader. In a process of
// their own the steps run on its thread; in a process that also serves (a library, `master_process off`) on blocking
// threads. Holds the configuration until its last step has ended. One loop's thread.
using Weir.Loop;

namespace Weir.Http.Cache;

/// <summary>Which of the cache's work.</summary>
[Flags]
public enum CacheDuties
{
    None = 0,
    Manages = 1,
    Loads = 2,
}

/// <summary>The caches of one configuration being looked after.</summary>
public sealed class CacheKeeper
{
    private readonly EventLoop _loop;
    private readonly HttpConfiguration _configuration;
    private int _loading;
    private bool _stopped;

    private CacheKeeper(EventLoop loop, HttpConfiguration configuration)
    {
        _loop = loop;
        _configuration = configuration;
    }

    /// <summary>Called when all files have been loaded.</summary>
    public Action? Loaded { get; init; }

    /// <summary>Begins; null where there is no cache. <paramref name="loaded"/> hears when everything is
    /// loaded.</summary>
    public static CacheKeeper? Start(EventLoop loop, HttpConfiguration configuration, CacheDuties duties,
        Action? loaded = null)
    {
        IReadOnlyList<CachePath> paths = CachePaths.Of(configuration);
        if (paths.Count == 0)
        {
            return null;
        }
        var keeper = new CacheKeeper(loop, configuration) { Loaded = loaded };
        keeper._loading = (duties & CacheDuties.Loads) != 0 ? paths.Count : 0;
        foreach (CachePath path in paths)
        {
            if ((duties & CacheDuties.Loads) != 0)
            {
                keeper.LoadAsync(path).Forget();
            }
            if ((duties & CacheDuties.Manages) != 0)
            {
                keeper.ManageAsync(path).Forget();
            }
        }
        return keeper;
    }

    /// <summary>A step is under way on another thread.</summary>
    public bool IsWorking => _working > 0;

    private int _working;

    /// <summary>Takes no further step.</summary>
    public void Stop() => _stopped = true;

    private async LoopTask<Unit> ManageAsync(CachePath path)
    {
        _configuration.AddReference();
        var step = new ManagerStep(new CacheManager(path));
        while (!_stopped)
        {
            _working++;
            await _loop.Blocking.RunAsync(step);
            _working--;
            long untilMs = _loop.NowMs + step.NextMs;
            // In pieces, so that a stop is noticed.
            while (!_stopped && _loop.NowMs < untilMs)
            {
                await _loop.DelayAsync((int)Math.Clamp(untilMs - _loop.NowMs, 1, StopNoticedMs));
            }
        }
        _configuration.Release();
        return default;
    }

    private const int StopNoticedMs = 1000;

    private async LoopTask<Unit> LoadAsync(CachePath path)
    {
        _configuration.AddReference();
        var step = new LoaderStep(new CacheLoader(path));
        while (!_stopped)
        {
            _working++;
            await _loop.Blocking.RunAsync(step);
            _working--;
            if (step.IsDone)
            {
                break;
            }
            if (path.LoaderSleepMs > 0)
            {
                await _loop.DelayAsync((int)path.LoaderSleepMs);
            }
            else
            {
                await _loop.YieldAsync();
            }
        }
        _configuration.Release();
        if (--_loading == 0 && !_stopped)
        {
            Loaded?.Invoke();
        }
        return default;
    }

    private sealed class ManagerStep(CacheManager manager) : BlockingOperation
    {
        internal long NextMs { get; private set; }

        protected override void Work() => NextMs = manager.Step();
    }

    private sealed class LoaderStep(CacheLoader loader) : BlockingOperation
    {
        internal bool IsDone { get; private set; }

        protected override void Work() => IsDone = loader.Step();
    }
}
