# Seizes a thread, stops it, and keeps it until standard input ends. It waits for the thread's end too (__WALL, WNOHANG): a
# traced thread that has ended and nobody has waited for keeps its process from being gone.
#   perl freeze.pl NUMBER_OF_PTRACE THREAD
my ($ptrace, $thread) = @ARGV;
for my $request (0x4206, 0x4207) {
    syscall($ptrace, $request, $thread + 0, 0, 0) == 0 or do { print "$!\n"; exit 1 };
}
$| = 1;
print "stopped\n";
my $in = "";
do { vec($in = "", fileno(STDIN), 1) = 1; waitpid($thread, 0x40000001) } until select($in, undef, undef, 0.05);
