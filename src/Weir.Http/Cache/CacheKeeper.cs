// Runs what the cache processes do, on a loop: a task per cache for the manager and one for the loader. In a process of
// their own the steps run on its thread; in a process that also serves (a library, `master_process off`) on blocking
// threads. Holds the configuration until its last step has ended. One loop's thread.
using Weir.Kernel;
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
        var step = new ManagerStep(new CacheManager(path, _loop));
        bool failed = false;
        while (!_stopped)
        {
            _working++;
            await _loop.Blocking.RunAsync(step);
            _working--;
            Report("manager", path, step.Failure, ref failed);
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
        var step = new LoaderStep(new CacheLoader(path, _loop));
        bool failed = false;
        while (!_stopped)
        {
            _working++;
            await _loop.Blocking.RunAsync(step);
            _working--;
            Report("loader", path, step.Failure, ref failed);
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

    /// <summary>A disk that cannot be read is a line in the log, once until it can be read again; the process and its
    /// other caches go on.</summary>
    private void Report(string who, CachePath path, string? failure, ref bool failed)
    {
        if (failure is not null && !failed)
        {
            _configuration.DefaultLog.Write(LogLevel.Crit,
                $"cache {who}: cannot read \"{path.Directory}\": {failure}");
        }
        failed = failure is not null;
    }

    internal sealed class ManagerStep(CacheManager manager) : BlockingOperation
    {
        internal long NextMs { get; private set; }
        internal string? Failure { get; private set; }

        protected override void Work() => Run();

        internal void Run()
        {
            Failure = null;
            try
            {
                NextMs = manager.Step();
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                Failure = e.Message;
                NextMs = AfterFailureMs;
            }
        }
    }

    private const long AfterFailureMs = 10_000;

    internal sealed class LoaderStep(CacheLoader loader) : BlockingOperation
    {
        internal bool IsDone { get; private set; }
        internal string? Failure { get; private set; }

        protected override void Work() => Run();

        internal void Run()
        {
            try
            {
                IsDone = loader.Step();
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // What cannot be read is not there: as in nginx the cache begins with what was found so far.
                Failure = e.Message;
                loader.Abandon();
                IsDone = true;
            }
        }
    }
}
