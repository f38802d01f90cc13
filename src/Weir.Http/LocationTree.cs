// Choosing a location, with nginx's rules: an exact one wins; else the longest prefix is remembered; regular
// expressions
// are tried in order unless that prefix forbids it (^~); nested locations are searched inside the match.
// Prefixes are a radix tree over bytes. Built with the configuration, frozen afterwards, allocates nothing.
using Weir.Kernel;
using Weir.Session;

namespace Weir.Http;

public enum LocationMatchKind : byte
{
    Found,
    AutoRedirect,
    Error,
}

/// <summary>What the search found.</summary>
public readonly struct LocationMatch(LocationMatchKind kind, LocationConf? location, NativeSlice redirect = default)
{
    public readonly LocationMatchKind Kind = kind;
    public readonly LocationConf? Location = location;

    /// <summary>For <see cref="LocationMatchKind.AutoRedirect"/>: the URI with its slash and query.</summary>
    public readonly NativeSlice Redirect = redirect;
}

/// <summary>The locations of a server, or of a location with others inside.</summary>
public sealed class LocationTree
{
    private readonly Node _root = new([]);
    private LocationConf[] _regexes = [];
    private Dictionary<LocationConf, LocationTree>? _nested;
    private ByteTable<LocationConf>? _named;
    private readonly LocationConf _none;
    private bool _hasPrefixes;

    private sealed class Node(byte[] label)
    {
        internal byte[] Label = label;
        internal Node[] Children = [];
        internal LocationConf? Exact;
        internal LocationConf? Prefix;
    }

    /// <param name="none">What is in force where nothing matches: the settings of the block around.</param>
    public LocationTree(LocationConf none) => _none = none;

    /// <summary>Adds a location; false when one of the same kind and name is there already.</summary>
    public bool TryAdd(LocationConf location)
    {
        if (location.IsNamed)
        {
            return (_named ??= new ByteTable<LocationConf>()).TryAdd(location.NameBytes, location);
        }
        if (location.Regex is not null)
        {
            _regexes = [.. _regexes, location];
            return true;
        }
        Node node = Insert(location.NameBytes.Span);
        ref LocationConf? place = ref location.IsExact ? ref node.Exact : ref node.Prefix;
        if (place is not null)
        {
            return false;
        }
        place = location;
        _hasPrefixes = true;
        return true;
    }

    public void SetNested(LocationConf location, LocationTree tree) => (_nested ??= [])[location] = tree;

    public bool HasNamed => _named is not null;

    public LocationConf? FindNamed(ReadOnlySpan<byte> name) =>
        _named is not null && _named.TryGet(name, out LocationConf? location) ? location : null;

    /// <summary>The location for the request's URI.</summary>
    public LocationMatch Find(HttpRequest r)
    {
        if (_regexes.Length == 0 && _nested is null && _hasPrefixes)
        {
            LocationConf? plain = FindPrefix(r.Uri.Span, out _, out LocationConf? redirect);
            if (redirect is null)
            {
                return new LocationMatch(LocationMatchKind.Found, plain ?? _none);
            }
        }
        LocationMatch match = Search(r, out bool found);
        return found || match.Kind != LocationMatchKind.Found ? match
            : new LocationMatch(LocationMatchKind.Found, _none);
    }

    private LocationMatch Search(HttpRequest r, out bool found)
    {
        found = false;
        LocationConf? best = null;
        bool noRegex = false;
        if (_hasPrefixes)
        {
            best = FindPrefix(r.Uri.Span, out bool exact, out LocationConf? redirect);
            if (exact)
            {
                found = true;
                return new LocationMatch(LocationMatchKind.Found, best);
            }
            if (redirect is not null)
            {
                found = true;
                return new LocationMatch(LocationMatchKind.AutoRedirect, redirect, RedirectTarget(r));
            }
            if (best is not null)
            {
                noRegex = best.StopsRegex;
                if (_nested is not null && _nested.TryGetValue(best, out LocationTree? inner))
                {
                    LocationMatch deeper = inner.Search(r, out bool foundDeeper);
                    if (foundDeeper && (deeper.Kind != LocationMatchKind.Found || deeper.Location!.IsExact
                        || deeper.Location.Regex is not null))
                    {
                        found = true;
                        return deeper;
                    }
                    if (foundDeeper)
                    {
                        best = deeper.Location;
                        noRegex |= best!.StopsRegex;
                    }
                }
            }
        }
        if (!noRegex)
        {
            foreach (LocationConf candidate in _regexes)
            {
                switch (candidate.Regex!.Match(r, r.Uri))
                {
                    case RegexOutcome.Match:
                        found = true;
                        if (_nested is not null && _nested.TryGetValue(candidate, out LocationTree? inner))
                        {
                            LocationMatch deeper = inner.Search(r, out bool foundDeeper);
                            if (foundDeeper || deeper.Kind == LocationMatchKind.Error)
                            {
                                return deeper;
                            }
                        }
                        return new LocationMatch(LocationMatchKind.Found, candidate);
                    case RegexOutcome.Failed:
                        r.LogError(LogLevel.Alert,
                            $"pcre2_match() failed: match limit on \"{r.Uri}\" using \"{candidate.Name}\"");
                        return new LocationMatch(LocationMatchKind.Error, null);
                }
            }
        }
        found = best is not null;
        return new LocationMatch(LocationMatchKind.Found, best);
    }

    private static NativeSlice RedirectTarget(HttpRequest r)
    {
        NativeSlice slash = r.Arena.Concat(r.Uri.Span, "/"u8);
        return r.Args.IsEmpty
            ? slash
            : r.Arena.Concat(slash.Span, r.Arena.Concat("?"u8, r.Args.Span).Span);
    }

    private LocationConf? FindPrefix(ReadOnlySpan<byte> uri, out bool exact, out LocationConf? redirect)
    {
        exact = false;
        redirect = null;
        LocationConf? best = null;
        Node node = _root;
        while (true)
        {
            best = node.Prefix ?? best;
            if (uri.IsEmpty)
            {
                if (node.Exact is not null)
                {
                    exact = true;
                    return node.Exact;
                }
                Node? slash = Child(node, (byte)'/');
                if (slash is { Label.Length: 1 } && (slash.Exact ?? slash.Prefix) is { AutoRedirect: true } target)
                {
                    redirect = target;
                }
                return best;
            }
            Node? next = Child(node, uri[0]);
            if (next is null)
            {
                return best;
            }
            if (!uri.StartsWith(next.Label))
            {
                if (next.Label.Length == uri.Length + 1 && next.Label[^1] == '/' && next.Label.AsSpan().StartsWith(uri)
                    && (next.Exact ?? next.Prefix) is { AutoRedirect: true } target)
                {
                    redirect = target;
                }
                return best;
            }
            uri = uri[next.Label.Length..];
            node = next;
        }
    }

    private static Node? Child(Node node, byte first)
    {
        Node[] children = node.Children;
        if (children.Length <= 8)
        {
            foreach (Node child in children)
            {
                if (child.Label[0] == first)
                {
                    return child;
                }
            }
            return null;
        }
        int low = 0;
        int high = children.Length - 1;
        while (low <= high)
        {
            int middle = (low + high) >> 1;
            int order = children[middle].Label[0] - first;
            if (order == 0)
            {
                return children[middle];
            }
            if (order < 0)
            {
                low = middle + 1;
            }
            else
            {
                high = middle - 1;
            }
        }
        return null;
    }

    private Node Insert(ReadOnlySpan<byte> name)
    {
        Node node = _root;
        while (name.Length > 0)
        {
            Node? next = Child(node, name[0]);
            if (next is null)
            {
                var leaf = new Node(name.ToArray());
                AddChild(node, leaf);
                return leaf;
            }
            int common = name.CommonPrefixLength(next.Label);
            if (common < next.Label.Length)
            {
                // Split: what both share becomes a node of its own.
                var rest = new Node(next.Label[common..])
                {
                    Children = next.Children,
                    Exact = next.Exact,
                    Prefix = next.Prefix,
                };
                next.Label = next.Label[..common];
                next.Children = [rest];
                next.Exact = null;
                next.Prefix = null;
            }
            name = name[common..];
            node = next;
        }
        return node;
    }

    private static void AddChild(Node parent, Node child)
    {
        int at = 0;
        while (at < parent.Children.Length && parent.Children[at].Label[0] < child.Label[0])
        {
            at++;
        }
        var children = new Node[parent.Children.Length + 1];
        parent.Children.AsSpan(0, at).CopyTo(children);
        children[at] = child;
        parent.Children.AsSpan(at).CopyTo(children.AsSpan(at + 1));
        parent.Children = children;
    }
}
