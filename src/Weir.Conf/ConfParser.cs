// From text to tree: blocks, includes and everything that is wrong with the syntax. One parser builds one tree. It
// never throws for what a text says; after an error it goes on with the next statement, so that all are reported.
// Which directives exist and where is not asked here: ConfWalker knows.
namespace Weir.Conf;

public sealed class ConfParser
{
    /// <summary>Blocks within blocks, over all files.</summary>
    public const int BlockDepthMax = 128;

    /// <summary>Files that include files.</summary>
    public const int IncludeDepthMax = 64;

    /// <summary>
    /// Files read in all, each reading counted: what keeps doubling includes from growing without bound.
    /// </summary>
    public const int FilesReadMax = 65_536;

    /// <summary>Bytes read in all, for the same reason.</summary>
    public const long BytesReadMax = 1L << 30;

    private readonly IConfFiles _files;
    private readonly string _prefix;
    private readonly ConfErrors _errors = new();
    private readonly List<ConfDirective> _directives = [];
    private readonly List<ConfFile> _filesInOrder = [];
    private readonly HashSet<string> _paths = new(StringComparer.Ordinal);
    private readonly List<string> _open = [];
    private readonly WordPool _words = new();
    private int _order;
    private int _blockDepth;
    private int _filesRead;
    private long _bytesRead;
    private bool _tooMuch;

    private ConfParser(IConfFiles files, string prefix)
    {
        _files = files;
        _prefix = prefix.Length == 0 || prefix.EndsWith('/') ? prefix : prefix + "/";
    }

    /// <summary>
    /// Reads a main file and all it includes. Relative includes start at <paramref name="confPrefix"/>, by default
    /// the folder of the main file. The text of <c>-g</c> is read before the file, as nginx does.
    /// </summary>
    public static ConfTree Parse(IConfFiles files, string path, string? globals = null, string? confPrefix = null)
    {
        ConfParser parser = new(files, confPrefix ?? FolderOf(path));
        if (globals is not null)
        {
            parser.ParseText(ConfFile.CommandLine(globals), parser._directives, ownerName: null);
        }
        parser.ParseFile(path, parser._directives, ownerName: null, from: null);
        return parser.Finish();
    }

    /// <summary>Reads one text that may include files.</summary>
    public static ConfTree ParseText(ConfFile text, IConfFiles files, string confPrefix)
    {
        ConfParser parser = new(files, confPrefix);
        if (!text.IsCommandLine)
        {
            parser.Remember(text);
        }
        parser.ParseText(text, parser._directives, ownerName: null);
        return parser.Finish();
    }

    private static string FolderOf(string path) => path[..(path.LastIndexOf('/') + 1)];

    private ConfTree Finish() => new(_directives, _filesInOrder, _errors);

    private void Remember(ConfFile file)
    {
        if (_paths.Add(file.Path))
        {
            _filesInOrder.Add(file);
        }
    }

    private void ParseFile(string path, List<ConfDirective> into, string? ownerName, ConfSpan? from)
    {
        if (_open.Contains(path))
        {
            string chain = string.Join(" -> ", _open.Skip(_open.IndexOf(path)).Append(path));
            _errors.Emerg($"\"include\" directive includes \"{path}\", which is being read already", from, chain);
            return;
        }
        if (_open.Count >= IncludeDepthMax)
        {
            _errors.Emerg($"files include files more than {IncludeDepthMax} deep", from);
            return;
        }
        ConfFile? file = _files.Read(path, out string? error);
        if (file is null)
        {
            _errors.Emerg(error ?? $"open() \"{path}\" failed", from);
            return;
        }
        _bytesRead += file.Bytes.Length;
        if (++_filesRead > FilesReadMax || _bytesRead > BytesReadMax)
        {
            if (!_tooMuch)
            {
                _errors.Emerg($"more than {FilesReadMax} files or {BytesReadMax >> 20} MiB are included", from);
            }
            _tooMuch = true;
            return;
        }
        Remember(file);
        _open.Add(path);
        ParseText(file, into, ownerName);
        _open.RemoveAt(_open.Count - 1);
    }

    private readonly record struct Frame(ConfDirective? Owner, List<ConfDirective> Into, string? OwnerName);

    /// <summary>One text. Its blocks must be closed in it, whatever it is included from.</summary>
    private void ParseText(ConfFile text, List<ConfDirective> into, string? ownerName)
    {
        ConfLexer lexer = new(text, _words);
        Stack<Frame> stack = new();
        Frame frame = new(null, into, ownerName);
        while (true)
        {
            switch (lexer.Next())
            {
                case LexKind.Words:
                    ConfDirective directive = Make(lexer, null, broken: false);
                    if (!TryInclude(directive, frame))
                    {
                        frame.Into.Add(directive);
                    }
                    break;

                case LexKind.BlockStart:
                    ConfDirective opening = Make(lexer, [], IsIncludeBlock(lexer));
                    Report(opening);
                    if (!Open(opening, stack, ref frame))
                    {
                        return;
                    }
                    break;

                case LexKind.BlockEnd:
                    Close(lexer.Mark with { Order = _order++ }, stack, ref frame);
                    break;

                case LexKind.End:
                    AtEnd(lexer.Mark with { Order = _order++ }, stack.Count, frame.Owner);
                    _blockDepth -= stack.Count;
                    return;

                case LexKind.Error:
                    _errors.Emerg(lexer.Error, lexer.ErrorSpan with { Order = _order++ }, lexer.Hint);
                    List<LexWord> words = [.. lexer.Words];
                    LexResume resume = lexer.Resync();
                    if (resume == LexResume.End)
                    {
                        _blockDepth -= stack.Count;
                        return;
                    }
                    if (resume == LexResume.InsideBlock && !Open(Unnamed(words, lexer), stack, ref frame))
                    {
                        return;
                    }
                    break;
            }
        }
    }

    private bool Open(ConfDirective opening, Stack<Frame> stack, ref Frame frame)
    {
        if (_blockDepth >= BlockDepthMax)
        {
            _errors.Emerg($"blocks stand in blocks more than {BlockDepthMax} deep", opening.End);
            _blockDepth -= stack.Count;
            return false;
        }
        _blockDepth++;
        frame.Into.Add(opening);
        stack.Push(frame);
        frame = new Frame(opening, opening.Block!, opening.Name);
        return true;
    }

    private void Close(ConfSpan mark, Stack<Frame> stack, ref Frame frame)
    {
        if (frame.Owner is null)
        {
            _errors.Emerg("unexpected \"}\"", mark, "it closes nothing: no block is open here");
            return;
        }
        frame.Owner.BlockEnd = mark;
        frame = stack.Pop();
        _blockDepth--;
    }

    private void AtEnd(ConfSpan mark, int openBlocks, ConfDirective? innermost)
    {
        if (openBlocks == 0 || innermost is null)
        {
            return;
        }
        innermost.BlockEnd = mark;
        string name = innermost.Name.Length == 0 ? "the block" : $"\"{innermost.Name}\"";
        _errors.Emerg("unexpected end of file, expecting \"}\"", mark,
            $"{name} opened on line {innermost.End.Line} is not closed");
    }

    /// <summary>nginx refuses blocks in <c>-g</c>, and <c>include x {</c>, before it looks at anything else.</summary>
    private void Report(ConfDirective opening)
    {
        if (opening.File.IsCommandLine)
        {
            _errors.Emerg("block directives are not supported in -g option", opening.Span);
        }
        else if (opening.Broken)
        {
            _errors.Emerg("directive \"include\" is not terminated by \";\"", opening.Span);
        }
    }

    private static bool IsIncludeBlock(ConfLexer lexer) =>
        lexer.Words[0].Text == "include" || lexer.File.IsCommandLine;

    /// <summary>Replaces an include by what it names. False when the statement is no include.</summary>
    private bool TryInclude(ConfDirective directive, Frame frame)
    {
        if (directive.Name != "include" || !MayInclude(directive, frame.OwnerName))
        {
            return false;
        }
        if (directive.Args.Length != 1)
        {
            _errors.Emerg("invalid number of arguments in \"include\" directive", directive.Span);
            return true;
        }
        ConfArg target = directive.Args[0];
        string path = target.Text.StartsWith('/') ? target.Text : _prefix + target.Text;
        if (!GlobPattern.HasMagic(path))
        {
            ParseFile(path, frame.Into, frame.OwnerName, target.Span);
            return true;
        }
        foreach (string match in _files.Glob(path))
        {
            ParseFile(match, frame.Into, frame.OwnerName, target.Span);
        }
        return true;
    }

    /// <summary>
    /// In a split_clients or charset_map block the word means nothing; in map and geo it is an include only with one
    /// argument (a source value may be spelled so).
    /// </summary>
    private static bool MayInclude(ConfDirective directive, string? ownerName) => ownerName switch
    {
        "split_clients" or "charset_map" => false,
        "map" or "geo" => directive.Args.Length == 1,
        _ => true,
    };

    private ConfDirective Make(ConfLexer lexer, List<ConfDirective>? block, bool broken)
    {
        List<LexWord> words = lexer.Words;
        int report = lexer.Mark.Line;
        ConfSpan nameSpan = words[0].Span with { ReportLine = report, Order = _order++ };
        ConfArg[] args = words.Count == 1 ? [] : new ConfArg[words.Count - 1];
        for (int i = 0; i < args.Length; i++)
        {
            LexWord word = words[i + 1];
            args[i] = new ConfArg(word.Text, word.Span with { ReportLine = report, Order = _order++ }, word.Quoted);
        }
        return new ConfDirective
        {
            Name = words[0].Text,
            NameQuoted = words[0].Quoted,
            Args = args,
            Span = nameSpan,
            End = lexer.Mark with { Order = _order++ },
            Block = block,
            Broken = broken,
            BlockEnd = lexer.Mark,
        };
    }

    /// <summary>Stands for a block whose opening words were wrong, so that its braces still pair.</summary>
    private ConfDirective Unnamed(List<LexWord> words, ConfLexer lexer)
    {
        ConfSpan span = (words.Count > 0 ? words[0].Span : lexer.ErrorSpan) with { Order = _order++ };
        return new ConfDirective
        {
            Name = words.Count > 0 ? words[0].Text : "",
            Args = [],
            Span = span,
            End = span with { Line = lexer.Line },
            Block = [],
            Broken = true,
            BlockEnd = span,
        };
    }
}
