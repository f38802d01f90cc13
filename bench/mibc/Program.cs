// Makes of what runs on the JIT counted (the runtime's own text, DOTNET_WritePGOData) the file that the ahead-of-time
// compiler optimises by.
//   Weir.Bench.Mibc OUTPUT.mibc ASSEMBLIES TEXT…
using Weir.Bench.Mibc;

if (args.Length < 3)
{
    Console.Error.WriteLine("usage: Weir.Bench.Mibc OUTPUT.mibc ASSEMBLIES TEXT…");
    return 1;
}
var profile = new RuntimeProfile();
foreach (string text in args[2..])
{
    profile.Add(text);
}
var writer = new MibcWriter(new RuntimeNames(args[1]));
int written = 0;
// Ordered, so that the same counts make the same bytes.
foreach (MethodCounts method in profile.Methods.OrderBy(static m => m.Name, StringComparer.Ordinal)
    .ThenBy(static m => m.Signature, StringComparer.Ordinal))
{
    // What ran only a few times is a start's: the compiler's own guesses are no worse.
    if (method.Most >= RuntimeProfile.LeastCount && writer.TryWrite(method))
    {
        written++;
    }
}
writer.Save(args[0]);
Console.WriteLine($"mibc: {written} methods; of {writer.Unknown} that ran often the name leads to none or to several");
return written > 0 ? 0 : 1;
